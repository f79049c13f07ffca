
-- Tells a change (src/store/postgres/tables/after.sql). Keys: {kind}
DECLARE
    action text := left(TG_OP, 1);
    stream_channel text;
    head text;
    row_text text;
    row_version bigint;
    gone_version bigint;
    gone_head text;
    gone_row text;
    deletes bigint;
    restamped bigint;
BEGIN
    -- What may fail is done within this block, which costs next to nothing while nothing in it writes.
    BEGIN
        IF action <> 'U' OR NEW.{key} IS DISTINCT FROM OLD.{key} THEN
            IF action <> 'I' THEN
                -- A key that is there again was inserted by the same transaction, and that insert tells it. The snapshot of a
                -- stricter isolation level shows rows too that others have deleted since, whose versions are below.
                PERFORM FROM {table} AS found WHERE found.{key} = OLD.{key} AND found.tableoid = TG_RELID
                    AND found.rowcast_version > OLD.rowcast_version;
                IF NOT FOUND THEN
                    gone_version := nextval({versions});
                    -- Counted after it was drawn: an insert that drew before and finds the key free finds it counted.
                    deletes := nextval({deletes});
                    IF gone_version <= OLD.rowcast_version THEN
                        -- Somebody set the sequence back.
                        PERFORM {schema}.rowcast_version_below();
                    END IF;
                    SELECT channel, {sendable}(row_to_json(OLD)::text),
                        CASE WHEN octet_length(OLD.{key}::text) <= 256 THEN {sendable}(
                            concat('row ', TG_RELID, ' D ', gone_version, ' ', to_json(OLD.{key}))) END
                        INTO stream_channel, gone_row, gone_head FROM {schema}.rowcast_stream;
                END IF;
            END IF;
            IF action = 'U' THEN
                -- A change of the key is the delete of one row and the insert of another.
                action := 'I';
            END IF;
            IF action = 'I' AND coalesce(pg_sequence_last_value({deletes}), 0)::text
                IS DISTINCT FROM current_setting('rowcast.deletes_{id}', true)
            THEN
                -- A delete may have drawn and committed since this insert drew. Under READ COMMITTED its tombstone is
                -- seen; the stricter levels may hide it (https://www.postgresql.org/docs/15/transaction-iso.html).
                -- The row then gets its version by an update, which is told as the insert.
                IF current_setting('transaction_isolation') NOT LIKE 'read %' OR NEW.rowcast_version < (
                    SELECT max(version) FROM {schema}.rowcast_tombstones
                    WHERE table_id = {id} AND key = NEW.{key}::text)
                THEN
                    PERFORM set_config('rowcast.restamped', concat(TG_RELID, ' ', NEW.{key}), true);
                    restamped := 0;
                    EXECUTE 'UPDATE ' || TG_RELID::regclass || {restamp} USING NEW.{key}, NEW.rowcast_version;
                    GET DIAGNOSTICS restamped = ROW_COUNT;
                    PERFORM set_config('rowcast.restamped', '', true);
                    IF restamped = 0 THEN
                        -- The row stays below its deletion: who was told of that takes it for an older one.
                        PERFORM {schema}.rowcast_version_below();
                        PERFORM {schema}.rowcast_gap(TG_RELID, 'stale');
                    END IF;
                END IF;
            END IF;
        ELSIF current_setting('rowcast.restamped', true) = concat(TG_RELID, ' ', NEW.{key}) THEN
            action := 'I';
            -- Taken back at once: the triggers that follow may update the same row in earnest.
            PERFORM set_config('rowcast.restamped', '', true);
        END IF;
        IF TG_OP = 'UPDATE' AND (NEW.rowcast_version > OLD.rowcast_version) IS NOT TRUE THEN
            -- A trigger of somebody else came after the stamp and has put another version there: to readers the row is old.
            PERFORM {schema}.rowcast_version_below();
        END IF;
        IF action <> 'D' AND restamped IS NULL THEN
            SELECT channel, {sendable}(row_to_json(NEW)::text),
                CASE WHEN octet_length(NEW.{key}::text) <= 256 AND NEW.rowcast_version IS NOT NULL THEN {sendable}(
                    concat('row ', TG_RELID, ' ', action, ' ', NEW.rowcast_version, ' ', to_json(NEW.{key}))) END,
                NEW.rowcast_version::bigint
                INTO stream_channel, row_text, head, row_version FROM {schema}.rowcast_stream;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        BEGIN
            IF restamped = 0 THEN
                PERFORM {schema}.rowcast_version_below();
            END IF;
            PERFORM {schema}.rowcast_gap(TG_RELID, SQLSTATE);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
        RETURN NULL;
    END;

    IF gone_version IS NOT NULL THEN
        -- Not within a block that catches errors: each would be a subtransaction with a number of its own, and a
        -- statement that deletes many rows would make every snapshot in the cluster slower. What may fail here, beside
        -- a full disk, is looked at before.
        IF gone_head IS NOT NULL AND to_regclass({tombstones}) IS NOT NULL THEN
            INSERT INTO {schema}.rowcast_tombstones (table_id, key, version)
                VALUES ({id}, OLD.{key}::text, gone_version) ON CONFLICT DO NOTHING;
        END IF;
        IF stream_channel IS NOT NULL AND octet_length(gone_head) + octet_length(gone_row) < 7999 THEN
            PERFORM pg_notify(stream_channel, gone_head || ' ' || gone_row);
        ELSE
            PERFORM {schema}.rowcast_tell(stream_channel, TG_RELID, gone_head, gone_version, gone_row);
        END IF;
    END IF;
    IF octet_length(head) + octet_length(row_text) < 7999 THEN
        PERFORM pg_notify(stream_channel, head || ' ' || row_text);
    ELSIF action <> 'D' AND restamped IS NULL THEN
        PERFORM {schema}.rowcast_tell(stream_channel, TG_RELID, head, row_version, row_text);
    END IF;
    RETURN NULL;
END
