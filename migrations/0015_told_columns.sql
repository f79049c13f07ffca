-- What rows of a table look like may change and change back between two looks at it: a column is added and dropped, or
-- renamed twice. Rows that were told meanwhile are then shown as they were until they change. And it may change without
-- any change of the table: a label of an enum is renamed, a composite type gets an attribute.

-- The types that somebody made and that values of a table are made of, as they are written in the catalog: labels of enums, and
-- attributes of composite types. The database's own (numbers below FirstNormalObjectId) are made of each other. What is
-- joined here is looked up for each type: a join would read the catalogs from their beginning to their end.
CREATE FUNCTION rowcast_types(relation oid) RETURNS text LANGUAGE sql STABLE AS $$
    WITH RECURSIVE type AS (
        SELECT atttypid AS oid FROM pg_attribute
            WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND atttypid >= 16384
        UNION SELECT part FROM type CROSS JOIN LATERAL unnest((
            SELECT ARRAY[typelem, typbasetype]
                || ARRAY(SELECT rngsubtype FROM pg_range WHERE rngtypid = pg_type.oid)
                || ARRAY(SELECT rngsubtype FROM pg_range WHERE rngmultitypid = pg_type.oid)
                || ARRAY(SELECT atttypid FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped)
            FROM pg_type WHERE pg_type.oid = type.oid)) AS part
        WHERE part >= 16384)
    SELECT coalesce(md5(string_agg(concat_ws(' ', type.oid,
            (SELECT string_agg(concat_ws(' ', pg_enum.oid, enumlabel, xmin), ', ' ORDER BY pg_enum.oid)
                FROM pg_enum WHERE enumtypid = type.oid),
            (SELECT string_agg(concat_ws(' ', attnum, attname, xmin), ', ' ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = (SELECT typrelid FROM pg_type WHERE pg_type.oid = type.oid) AND attnum > 0)
        ), '; ' ORDER BY type.oid)), '') FROM type
$$;

-- As in 0005_table_rows.sql, and `columns` is another one too where a column was dropped, where one was altered in any way
-- since (pg_attribute has its newest form, by the transaction that wrote it), or a type that its values are made of.
CREATE OR REPLACE FUNCTION rowcast_fingerprints(names text[], table_ids int[])
RETURNS TABLE (place bigint, oid oid, file oid, columns text, key text, triggers text) LANGUAGE sql STABLE AS $$
    SELECT named.place, class.oid, pg_relation_filenode(class.oid),
        (SELECT md5(string_agg(concat_ws(' ', attnum, attname, atttypid, atttypmod, attcollation, attgenerated, pg_attribute.xmin,
                pg_attrdef.xmin), ', ' ORDER BY attnum))
            FROM pg_attribute LEFT JOIN pg_attrdef ON attgenerated <> '' AND adrelid = attrelid AND adnum = attnum
            WHERE attrelid = class.oid AND attnum > 0)
        || rowcast_types(class.oid),
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
