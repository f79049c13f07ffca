-- A table may be changed while its rows are read or written: another one is put in its place by renaming, its file is
-- written anew, its key gets another name. Whoever waits for that goes on with what was true before: with a name that is
-- another table's by then, and with a snapshot that is older than the new file, and sees no row in it
-- (https://www.postgresql.org/docs/15/mvcc-caveats.html).
--
-- Two errors say so:
--
--   RC001    the table was changed meanwhile: the same statement may succeed at once
--   RC002    the table is not as it was installed: the listener finds that, and puts it right

-- An installed table, as statements name it (see rowcast_table in 0009_true_rows.sql), and its file; nothing where it, its key
-- or its version is gone.
CREATE FUNCTION rowcast_found(id int, OUT name text, OUT key text, OUT key_type text, OUT oid oid, OUT file oid)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT format('%I.%I', nspname, relname), format('%I', keys.attname), CASE WHEN types.typtype <> 'd'
            THEN format_type(keys.atttypid, NULL)
            ELSE (WITH RECURSIVE base AS (SELECT types.typbasetype AS type UNION ALL
                    SELECT under.typbasetype FROM base JOIN pg_type AS under ON under.oid = base.type AND under.typtype = 'd')
                SELECT format_type(type, NULL) FROM base JOIN pg_type AS under ON under.oid = type AND under.typtype <> 'd')
            END, pg_class.oid, relfilenode
        INTO name, key, key_type, oid, file
        FROM rowcast_tables AS installed JOIN pg_class ON pg_class.oid = installed.relation
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        JOIN pg_attribute AS keys
            ON keys.attrelid = pg_class.oid AND keys.attname = installed.key AND NOT keys.attisdropped
        JOIN pg_type AS types ON types.oid = keys.atttypid
        JOIN pg_attribute AS versions
            ON versions.attrelid = pg_class.oid AND versions.attname = 'rowcast_version' AND NOT versions.attisdropped
        WHERE installed.id = rowcast_found.id;
END $$;

-- Keeps the table of this name from being changed until the transaction ends, and returns the installed one as it is then,
-- whatever the caller's snapshot shows. Nothing where no table has the name.
CREATE FUNCTION rowcast_held(name text, id int) RETURNS record LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', name);
    RETURN rowcast_found(id);
EXCEPTION WHEN undefined_table OR invalid_schema_name OR wrong_object_type THEN
    RETURN NULL;
END $$;

-- An installed table, as statements name it, which stays so until the transaction ends.
CREATE OR REPLACE FUNCTION rowcast_table(id int, OUT name text, OUT key text, OUT key_type text, OUT oid oid)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    seen record := rowcast_found(id);
BEGIN
    IF seen.oid IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'RC002', MESSAGE = 'a table that was installed, its key or its version is gone';
    ELSIF rowcast_held(seen.name, id) IS DISTINCT FROM seen THEN
        RAISE EXCEPTION USING ERRCODE = 'RC001', MESSAGE = 'a table was changed while its rows were read or written';
    END IF;
    name := seen.name;
    key := seen.key;
    key_type := seen.key_type;
    oid := seen.oid;
END $$;

-- Returns the number of an installed table, if this is its name still, as this session reads names. If it is to be written,
-- its triggers must be there: the change would be told to nobody, and get no version.
CREATE FUNCTION rowcast_named(id int, given text, is_written boolean) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    relation oid := (SELECT installed.relation FROM rowcast_tables AS installed WHERE installed.id = rowcast_named.id);
BEGIN
    IF to_regclass(given) IS DISTINCT FROM relation OR is_written AND rowcast_table_triggers_off(relation) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'RC002', MESSAGE = format('the table %s is not as it was installed', given);
    END IF;
    RETURN id;
END $$;
