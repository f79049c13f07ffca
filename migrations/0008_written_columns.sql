-- A write reads the values that it takes from the row that was sent, and no others. To read all columns of the table is to
-- fail where one that was not sent is of a domain that is NOT NULL, or where the database computes one whose value, as it
-- is shown, is none that could be read again.

DROP FUNCTION rowcast_columns(oid, name, text[]);

-- As in 0005_table_rows.sql, with the type as statements name it; a domain over json is json too.
CREATE FUNCTION rowcast_columns(relation oid, key_name name, named text[])
RETURNS TABLE (name name, type text, is_named boolean, is_added boolean, is_set boolean, is_json boolean)
LANGUAGE sql STABLE AS $$
    SELECT attname, format_type(atttypid, atttypmod), attname = ANY (named),
        attname = ANY (named) AND attgenerated = '' AND attname NOT IN ('rowcast_version', key_name),
        attgenerated = '' AND attname NOT IN ('rowcast_version', key_name) AND attidentity <> 'a'
            AND (attidentity = '' OR attname = ANY (named)),
        EXISTS (WITH RECURSIVE base AS (
                SELECT atttypid AS oid UNION ALL SELECT typbasetype FROM pg_type JOIN base USING (oid) WHERE typtype = 'd')
            SELECT FROM base WHERE oid IN ('json'::regtype, 'jsonb'::regtype))
        FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
$$;

-- As in 0005_table_rows.sql.
CREATE OR REPLACE FUNCTION rowcast_statement(installed record, key_name name, action text, has_key boolean, named text[])
RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    -- The columns whose values are read from the row. A patch of JSON is merged, and not read.
    source text := (SELECT format(' FROM json_to_record($1) AS given (%s)', string_agg(format('%I %s', name, type), ', '))
        FROM rowcast_columns(installed.oid, key_name, named)
        WHERE CASE WHEN action = 'insert' THEN is_added ELSE is_set AND is_named AND NOT (action = 'patch' AND is_json) END
        HAVING count(*) > 0);
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
        RETURN format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s%s RETURNING %s::text',
            installed.name, names, parts, source, installed.key);
    END IF;
    SELECT string_agg(format(', %I = ', name) || CASE
            WHEN NOT is_named THEN 'DEFAULT'
            WHEN action = 'patch' AND is_json THEN format(
                'rowcast_merged(target.%1$I::jsonb, nullif(($1 -> %1$L)::jsonb, ''null''))::%2$s', name, type)
            ELSE format('given.%I', name) END, '') INTO parts
        FROM rowcast_columns(installed.oid, key_name, named) WHERE is_set AND (is_named OR action = 'put');
    RETURN format('UPDATE %s AS target SET rowcast_version = 0%s%s WHERE target.%4$s = $2::%5$s RETURNING target.%4$s::text',
        installed.name, parts, source, installed.key, installed.key_type);
END $$;

-- The key that the row has is read alone, too.
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('rowcast_write'::regproc),
        $old$'SELECT given.%s::text FROM json_populate_record(NULL::%s, $1) AS given', installed.key, installed.name)$old$,
        $new$'SELECT given.%1$s::text FROM json_to_record($1) AS given (%1$s %2$s)', installed.key, installed.key_type)$new$);
END $$;
