-- The rows of tables, for the server: reads of many, pages, and writes of one. A row is JSON as the triggers tell it
-- (`src/store/postgres/tables/form.rs`), a key is text. What a statement may do, the rights of whoever calls say.

-- An installed table, as statements name it.
CREATE FUNCTION rowcast_table(id int, OUT name text, OUT key text, OUT key_type text, OUT oid oid)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT format('%I.%I', nspname, relname), format('%I', attname), format_type(atttypid, NULL), pg_class.oid
        INTO name, key, key_type, oid
        FROM rowcast_tables AS installed JOIN pg_class ON pg_class.oid = installed.relation
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        JOIN pg_attribute ON attrelid = pg_class.oid AND attname = installed.key AND NOT attisdropped
        WHERE installed.id = rowcast_table.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'a table that was installed, or its key, is gone';
    END IF;
END $$;

-- The one rendering of a row.
CREATE FUNCTION rowcast_rendered(whole record) RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC' SET bytea_output = 'hex' SET intervalstyle = 'iso_8601' SET datestyle = 'ISO'
SET extra_float_digits = 1 AS $$
BEGIN
    RETURN row_to_json(whole);
END $$;

-- The rows with these keys, and the tombstones of these keys, whose rows are NULL, as of one moment: as many rows as have
-- `bytes_max` bytes together, but at least one. A last row without a key says that there may be more.
CREATE FUNCTION rowcast_load(table_id int, wanted text[], bytes_max bigint)
RETURNS TABLE (key text, version bigint, is_there boolean, row_text text) LANGUAGE plpgsql STABLE AS $$
DECLARE
    installed record := rowcast_table(table_id);
    bytes bigint := 0;
BEGIN
    RETURN QUERY SELECT stone.key, max(stone.version), false, NULL::text FROM rowcast_tombstones AS stone
        WHERE stone.table_id = rowcast_load.table_id AND stone.key = ANY (wanted) GROUP BY stone.key;
    is_there := true;
    -- Names are rendered as the triggers do.
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    FOR key, version, row_text IN EXECUTE format(
        'SELECT found.%1$s::text, found.rowcast_version, row_to_json(found)::text FROM %2$s AS found '
        'WHERE found.%1$s = ANY ($1::%3$s[])',
        installed.key, installed.name, installed.key_type) USING wanted
    LOOP
        bytes := bytes + octet_length(row_text);
        IF bytes > bytes_max AND bytes > octet_length(row_text) THEN
            key := NULL;
            version := NULL;
            row_text := NULL;
            RETURN NEXT;
            RETURN;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- The rows that follow a key, or the first, by the order of keys: `rows_max` at most, and of those as many as have
-- `bytes_max` bytes together, but at least one. A last row without a key says that there are more.
CREATE FUNCTION rowcast_page(table_id int, after text, rows_max bigint, bytes_max bigint)
RETURNS TABLE (key text, version bigint, row_text text) LANGUAGE plpgsql STABLE AS $$
DECLARE
    installed record := rowcast_table(table_id);
    bytes bigint := 0;
    rows bigint := 0;
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    FOR key, version, row_text IN EXECUTE format(
        'SELECT found.%1$s::text, found.rowcast_version, row_to_json(found)::text FROM %2$s AS found %3$s '
        'ORDER BY found.%1$s LIMIT $2 + 1',
        installed.key, installed.name,
        CASE WHEN after IS NOT NULL THEN format('WHERE found.%s > $1::%s', installed.key, installed.key_type) END)
        USING after, rows_max
    LOOP
        rows := rows + 1;
        bytes := bytes + octet_length(row_text);
        IF rows > rows_max OR bytes > bytes_max AND rows > 1 THEN
            key := NULL;
            version := NULL;
            row_text := NULL;
            RETURN NEXT;
            RETURN;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- The keys and versions that follow a key, or the first: `rows_max` at most.
CREATE FUNCTION rowcast_keys(table_id int, after text, rows_max bigint)
RETURNS TABLE (key text, version bigint) LANGUAGE plpgsql STABLE AS $$
DECLARE
    installed record := rowcast_table(table_id);
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT found.%1$s::text, found.rowcast_version FROM %2$s AS found %3$s ORDER BY found.%1$s LIMIT $2',
        installed.key, installed.name,
        CASE WHEN after IS NOT NULL THEN format('WHERE found.%s > $1::%s', installed.key, installed.key_type) END)
        USING after, rows_max;
END $$;

-- Tables as their names are read at this moment, and all of them upon which the truth of what is told of them depends:
-- where one of the texts is another than before, rows may have changed without being told. NULL where there is no table;
-- `key` is NULL where the column is no key any more, `triggers` where one is missing or off.
CREATE FUNCTION rowcast_fingerprints(names text[], table_ids int[])
RETURNS TABLE (place bigint, oid oid, file oid, columns text, key text, triggers text) LANGUAGE sql STABLE AS $$
    SELECT named.place, class.oid, pg_relation_filenode(class.oid),
        (SELECT md5(string_agg(concat_ws(' ', attnum, attname, atttypid, atttypmod, attcollation, attgenerated), ', '
            ORDER BY attnum)) FROM pg_attribute WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped),
        (SELECT concat_ws(' ', attnum, attname, atttypid) FROM pg_attribute WHERE attrelid = class.oid
            AND attname = installed.key AND attnotnull AND NOT attisdropped AND EXISTS (
                SELECT FROM pg_index WHERE indrelid = attrelid AND indkey[0] = attnum AND indnkeyatts = 1 AND indisunique
                AND indisvalid AND indimmediate AND indpred IS NULL AND indexprs IS NULL)),
        (SELECT string_agg(concat_ws(' ', tgname, pg_trigger.xmin, pg_proc.xmin), ', ' ORDER BY tgname)
            FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
            WHERE tgrelid = class.oid AND tgname = ANY (ARRAY['00_rowcast', 'zz_rowcast', 'zz_rowcast_truncate'])
            AND tgenabled = 'A' HAVING count(*) = 3)
        FROM unnest(names, table_ids) WITH ORDINALITY AS named (name, id, place)
        LEFT JOIN rowcast_tables AS installed ON installed.id = named.id
        LEFT JOIN pg_class AS class ON class.oid = to_regclass(named.name)
        ORDER BY named.place
$$;

-- Whether a row of this version, or none, is as the writer demands: see product_meets in 0002_conditional_writes.sql.
CREATE FUNCTION rowcast_meets(version bigint, presence boolean, wanted bigint[], unwanted bigint[]) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce((version IS NOT NULL) = presence, true)
        AND (wanted IS NULL OR coalesce(version = ANY (wanted), false))
        AND NOT coalesce(version = ANY (unwanted), false)
$$;

-- What a value is after a merge patch (RFC 7396, §2).
CREATE FUNCTION rowcast_merged(target jsonb, patch jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    name text;
    value jsonb;
BEGIN
    IF coalesce(jsonb_typeof(patch), '') <> 'object' THEN
        RETURN patch;
    END IF;
    IF jsonb_typeof(target) IS DISTINCT FROM 'object' THEN
        target := '{}';
    END IF;
    FOR name, value IN SELECT * FROM jsonb_each(patch) LOOP
        IF jsonb_typeof(value) = 'null' THEN
            target := target - name;
        ELSE
            target := jsonb_set(target, ARRAY[name], rowcast_merged(target -> name, value));
        END IF;
    END LOOP;
    RETURN target;
END $$;

-- The columns of a table that a row names, or all of them, as a write of one row treats each: `is_added` by an insert,
-- `is_set` by an update. The version and what the database computes may be named, and are not written.
CREATE FUNCTION rowcast_columns(relation oid, key_name name, named text[])
RETURNS TABLE (name name, is_named boolean, is_added boolean, is_set boolean, json_type text) LANGUAGE sql STABLE AS $$
    SELECT attname, attname = ANY (named),
        attname = ANY (named) AND attgenerated = '' AND attname NOT IN ('rowcast_version', key_name),
        attgenerated = '' AND attname NOT IN ('rowcast_version', key_name) AND attidentity <> 'a'
            AND (attidentity = '' OR attname = ANY (named)),
        CASE WHEN atttypid IN ('json'::regtype, 'jsonb'::regtype) THEN atttypid::regtype::text END
        FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
$$;

-- The statement that writes a row: $1 is the row in JSON, $2 the key. It answers the key.
CREATE FUNCTION rowcast_statement(installed record, key_name name, action text, has_key boolean, named text[])
RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    source text := format('json_populate_record(NULL::%s, $1) AS given', installed.name);
    names text;
    parts text;
BEGIN
    IF action = 'insert' THEN
        SELECT string_agg(format('%I', name), ', '), string_agg(format('given.%I', name), ', ') INTO names, parts
            FROM rowcast_columns(installed.oid, key_name, named) WHERE is_added;
        IF has_key THEN
            names := concat_ws(', ', names, installed.key);
            parts := concat_ws(', ', parts, format('$2::%s', installed.key_type));
        END IF;
        IF names IS NULL THEN
            RETURN format('INSERT INTO %s DEFAULT VALUES RETURNING %s::text', installed.name, installed.key);
        END IF;
        -- An identity takes the number that it is given.
        RETURN format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s RETURNING %s::text',
            installed.name, names, parts, source, installed.key);
    END IF;
    SELECT string_agg(format(', %I = ', name) || CASE
            WHEN NOT is_named THEN 'DEFAULT'
            WHEN action = 'patch' AND json_type IS NOT NULL THEN format(
                'rowcast_merged(target.%1$I::jsonb, nullif(($1 -> %1$L)::jsonb, ''null''))::%2$s', name, json_type)
            ELSE format('given.%I', name) END, '') INTO parts
        FROM rowcast_columns(installed.oid, key_name, named) WHERE is_set AND (is_named OR action = 'put');
    RETURN format('UPDATE %s AS target SET rowcast_version = 0%s FROM %s WHERE target.%4$s = $2::%5$s RETURNING target.%4$s::text',
        installed.name, parts, source, installed.key, installed.key_type);
END $$;

-- Writes one row, if it is as the writer demands: `action` is `insert` (of a key that must be free), `put` (of a whole row,
-- new or not), `patch` or `delete` (of a row that must be there). For an insert, `wanted_key` is NULL where the row has the
-- key, or the database draws it. Columns that the row does not name get their defaults; a patch leaves them as they are.
--
-- Nothing is written where `fault` is not NULL: `unknown` (no such column: `told_key`), `key` (the row has another one),
-- `exists`, `absent`, `unmet` (the row is not as it was demanded) or `left` (by a trigger of somebody else). Otherwise the
-- key, the version and the row are those of afterwards; a deleted one has no row. A key that somebody else inserts
-- meanwhile fails the write as a unique violation: the server calls again then.
CREATE FUNCTION rowcast_write(table_id int, action text, wanted_key text, written json, presence boolean,
    wanted bigint[], unwanted bigint[],
    OUT fault text, OUT is_new boolean, OUT told_key text, OUT version bigint, OUT row_text text)
LANGUAGE plpgsql AS $$
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
    IF key_name = ANY (named) THEN
        EXECUTE format('SELECT given.%s::text FROM json_populate_record(NULL::%s, $1) AS given', installed.key, installed.name)
            INTO row_key USING written;
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
        version := (SELECT max(stone.version) FROM rowcast_tombstones AS stone
            WHERE stone.table_id = rowcast_write.table_id AND stone.key = told_key);
    ELSE
        EXECUTE rowcast_statement(installed, key_name, CASE WHEN is_new THEN 'insert' ELSE action END,
            wanted_key IS NOT NULL, named) INTO told_key USING written, wanted_key;
        -- The greatest: an old snapshot may show the row that was deleted besides the one that was inserted.
        EXECUTE format('SELECT rowcast_version, rowcast_rendered(found) FROM %s AS found WHERE %s = $1::%s '
            'ORDER BY rowcast_version DESC LIMIT 1', installed.name, installed.key, installed.key_type)
            INTO version, row_text USING told_key;
    END IF;
    IF told_key IS NULL THEN
        fault := 'left';
    END IF;
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['rowcast_load(int, text[], bigint)', 'rowcast_page(int, text, bigint, bigint)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
        EXECUTE format('ALTER FUNCTION %s SET timezone = ''UTC''', name);
        EXECUTE format('ALTER FUNCTION %s SET bytea_output = ''hex''', name);
        EXECUTE format('ALTER FUNCTION %s SET intervalstyle = ''iso_8601''', name);
        EXECUTE format('ALTER FUNCTION %s SET datestyle = ''ISO''', name);
        EXECUTE format('ALTER FUNCTION %s SET extra_float_digits = 1', name);
    END LOOP;
END $$;
