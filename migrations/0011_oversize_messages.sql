-- The messages of all tables stand under their versions, and where the sequence was set back two changes may have drawn the
-- same one. So each says whose it is, as a notification does, for who reads it to compare.
DO $$
DECLARE
    definition text := pg_get_functiondef('rowcast_tell'::regproc);
    told text := replace(definition, 'VALUES (version, row_text)', 'VALUES (version, head || '' '' || row_text)');
BEGIN
    IF told = definition THEN
        RAISE 'rowcast_tell is not as the migrations made it';
    END IF;
    EXECUTE told;
    IF to_regproc('product_notify') IS NULL THEN
        RETURN;
    END IF;
    -- Nor may one that is there already fail the write.
    definition := pg_get_functiondef('product_notify'::regproc);
    told := replace(definition, 'VALUES (version, message);', 'VALUES (version, message)
            ON CONFLICT ON CONSTRAINT oversize_changes_pkey DO UPDATE
            SET message = excluded.message, created_at = excluded.created_at;');
    IF told = definition THEN
        RAISE 'product_notify is not as the migrations made it';
    END IF;
    EXECUTE told;
END $$;
