-- One rendering of a row, whatever a session has set; and of a row that was written, what is true.

-- All settings on which the text of a value depends, beside those that these functions have already.
DO $$
DECLARE
    reader text;
BEGIN
    FOREACH reader IN ARRAY ARRAY['rowcast_rendered(record)', 'rowcast_load(int, text[], bigint)',
        'rowcast_page(int, text, bigint, bigint)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET lc_monetary = ''C''', reader);
        EXECUTE format('ALTER FUNCTION %s SET quote_all_identifiers = off', reader);
    END LOOP;
END $$;

-- As in 0005_table_rows.sql; the type of a key that is of a domain is what that is made of. A cast to a domain over
-- varchar(n) cuts what is longer off, and would find the row of another key.
CREATE OR REPLACE FUNCTION rowcast_table(id int, OUT name text, OUT key text, OUT key_type text, OUT oid oid)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT format('%I.%I', nspname, relname), format('%I', attname), CASE WHEN typtype <> 'd'
            THEN format_type(atttypid, NULL)
            ELSE (WITH RECURSIVE base AS (SELECT typbasetype AS type UNION ALL
                    SELECT under.typbasetype FROM base JOIN pg_type AS under ON under.oid = base.type AND typtype = 'd')
                SELECT format_type(type, NULL) FROM base JOIN pg_type AS under ON under.oid = type AND under.typtype <> 'd')
            END, pg_class.oid
        INTO name, key, key_type, oid
        FROM rowcast_tables AS installed JOIN pg_class ON pg_class.oid = installed.relation
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        JOIN pg_attribute ON attrelid = pg_class.oid AND attname = installed.key AND NOT attisdropped
        JOIN pg_type ON pg_type.oid = atttypid
        WHERE installed.id = rowcast_table.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'a table that was installed, or its key, is gone';
    END IF;
END $$;

-- Whether the column of the version bears the comment by which Rowcast knows it for its own. One that does not was made
-- by a release that set none.
ALTER TABLE rowcast_tables ADD COLUMN is_marked boolean NOT NULL DEFAULT false;

-- The text of a key as its column takes it: a varchar(n) takes one with more blanks at its end without those.
CREATE FUNCTION rowcast_taken_key(installed record, key_name name, given text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    taken text := given;
BEGIN
    IF right(given, 1) = ' ' THEN
        EXECUTE format('SELECT given.%1$s::text FROM json_to_record($1) AS given (%1$s %2$s)', installed.key,
            (SELECT type FROM rowcast_columns(installed.oid, key_name, '{}') WHERE name = key_name))
            INTO taken USING json_build_object(key_name, given);
    END IF;
    RETURN taken;
END $$;

-- As in 0005_table_rows.sql, and as 0006_whole_rows.sql and 0008_written_columns.sql have changed it; with two more
-- answers. `row_text` is NULL where a trigger of somebody else has removed the row again, or put it under another key:
-- `version` is then that of the removal, if it is known. And `key` is the fault of a row that is put under a key which
-- its column takes as another. Amounts of money are read as they are shown.
CREATE OR REPLACE FUNCTION rowcast_write(table_id int, action text, wanted_key text, written json, presence boolean,
    wanted bigint[], unwanted bigint[],
    OUT fault text, OUT is_new boolean, OUT told_key text, OUT version bigint, OUT row_text text)
LANGUAGE plpgsql SET lc_monetary = 'C' AS $$
DECLARE
    installed record := rowcast_table(table_id);
    key_name name := (SELECT key FROM rowcast_tables WHERE id = table_id);
    named text[] := ARRAY(SELECT DISTINCT json_object_keys(written));
    row_key text;
BEGIN
    told_key := (SELECT min(other) FROM unnest(named) AS other
        WHERE other NOT IN (SELECT name FROM rowcast_columns(installed.oid, key_name, named)));
    IF told_key IS NOT NULL THEN
        fault := 'unknown';
        RETURN;
    END IF;
    IF action = 'put' AND rowcast_taken_key(installed, key_name, wanted_key) <> wanted_key THEN
        fault := 'key';
        RETURN;
    ELSIF action = 'insert' THEN
        wanted_key := rowcast_taken_key(installed, key_name, wanted_key);
    END IF;
    IF key_name = ANY (named) THEN
        EXECUTE format('SELECT given.%1$s::text FROM json_to_record($1) AS given (%1$s %2$s)', installed.key,
            installed.key_type) INTO row_key USING written;
        row_key := rowcast_taken_key(installed, key_name, row_key);
        IF wanted_key IS NOT NULL AND row_key IS DISTINCT FROM wanted_key THEN
            fault := 'key';
            RETURN;
        END IF;
        wanted_key := row_key;
    END IF;

    EXECUTE format('SELECT rowcast_version FROM %s WHERE %s = $1::%s FOR UPDATE', installed.name, installed.key,
        installed.key_type) INTO version USING wanted_key;
    is_new := version IS NULL;
    fault := CASE
        WHEN is_new AND action IN ('patch', 'delete') THEN 'absent'
        WHEN NOT rowcast_meets(version, presence, wanted, unwanted) THEN 'unmet'
        WHEN NOT is_new AND action = 'insert' THEN 'exists' END;
    IF fault IS NOT NULL THEN
        RETURN;
    END IF;

    IF action = 'delete' THEN
        EXECUTE format('DELETE FROM %s WHERE %s = $1::%s RETURNING %2$s::text', installed.name, installed.key,
            installed.key_type) INTO told_key USING wanted_key;
    ELSE
        EXECUTE rowcast_statement(installed, key_name, CASE WHEN is_new THEN 'insert' ELSE action END,
            wanted_key IS NOT NULL, named) INTO told_key USING written, wanted_key;
        -- The greatest: an old snapshot may show the row that was deleted besides the one that was inserted.
        EXECUTE format('SELECT rowcast_version, rowcast_rendered(found.*) FROM %s AS found WHERE %s = $1::%s '
            'ORDER BY rowcast_version DESC LIMIT 1', installed.name, installed.key, installed.key_type)
            INTO version, row_text USING told_key;
    END IF;
    IF told_key IS NULL THEN
        fault := 'left';
    ELSIF row_text IS NULL THEN
        version := (SELECT max(stone.version) FROM rowcast_tombstones AS stone
            WHERE stone.table_id = rowcast_write.table_id AND stone.key = told_key);
    END IF;
END $$;
