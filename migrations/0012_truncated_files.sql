-- A TRUNCATE gives a table a new file, and so does whatever writes its rows anew without telling one of them (ALTER TABLE,
-- VACUUM FULL, CLUSTER). A TRUNCATE therefore tells its file, and a server that finds another knows which of them it was.
--
-- The stream's channel carries one more payload, beside the gap that a TRUNCATE is (see 0004_tables.sql):
--
--   file <oid> <file>    the file that the table <oid> has after a TRUNCATE, by its number in pg_class
--
-- Only an AFTER trigger sees that file. Tables that were installed before have a BEFORE trigger until they are installed on
-- again (`src/store/postgres/tables/form.rs`), and tell the gap alone: a server then begins an epoch of the table.

-- As in 0004_tables.sql, with the file.
CREATE OR REPLACE FUNCTION rowcast_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM rowcast_gap(TG_RELID, 'truncated');
    IF TG_WHEN = 'AFTER' THEN
        BEGIN
            PERFORM pg_notify(channel, format('file %s %s', TG_RELID, pg_relation_filenode(TG_RELID))) FROM rowcast_stream;
        EXCEPTION WHEN OTHERS THEN
            -- The gap is told all the same.
            NULL;
        END;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION rowcast_truncated() SET search_path = %I, pg_temp', current_schema());
END $$;
