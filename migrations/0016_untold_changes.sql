-- A gap that cannot be told, since the stream cannot be read (somebody locks it, say), is counted as a version below: the
-- count outlives transactions and needs no listener, and the next look begins an epoch of all.

-- As in 0004_tables.sql, with the count.
CREATE OR REPLACE FUNCTION rowcast_gap(relation oid, reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(channel, format('gap %s %s', relation, reason)) FROM rowcast_stream;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'Rowcast was not told of a change: %', SQLERRM;
    PERFORM rowcast_version_below();
END $$;

-- As in 0015_told_columns.sql, and `key` is another one too where an index of it was made anew: two rows may have had one
-- key meanwhile. There is none while the table has children, whose rows are read with its own and never told.
CREATE OR REPLACE FUNCTION rowcast_fingerprints(names text[], table_ids int[])
RETURNS TABLE (place bigint, oid oid, file oid, columns text, key text, triggers text) LANGUAGE sql STABLE AS $$
    SELECT named.place, class.oid, pg_relation_filenode(class.oid),
        (SELECT md5(string_agg(concat_ws(' ', attnum, attname, atttypid, atttypmod, attcollation, attgenerated, pg_attribute.xmin,
                pg_attrdef.xmin), ', ' ORDER BY attnum))
            FROM pg_attribute LEFT JOIN pg_attrdef ON attgenerated <> '' AND adrelid = attrelid AND adnum = attnum
            WHERE attrelid = class.oid AND attnum > 0)
        || rowcast_types(class.oid),
        (SELECT concat_ws(' ', attnum, attname, atttypid, string_agg(indexrelid::text, ' ' ORDER BY indexrelid))
            FROM pg_attribute JOIN pg_index ON indrelid = attrelid AND indkey[0] = attnum AND indnkeyatts = 1 AND indisunique
                AND indisvalid AND indimmediate AND indpred IS NULL AND indexprs IS NULL
            WHERE attrelid = class.oid AND attname = installed.key AND attnotnull AND NOT attisdropped
                AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = class.oid)
            GROUP BY attnum, attname, atttypid),
        (SELECT string_agg(concat_ws(' ', tgname, pg_trigger.xmin, pg_proc.xmin), ', ' ORDER BY tgname)
            FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
            WHERE tgrelid = class.oid AND tgname = ANY (ARRAY['00_rowcast', 'zz_rowcast', 'zz_rowcast_truncate'])
            AND tgenabled = 'A' HAVING count(*) = 3)
        FROM unnest(names, table_ids) WITH ORDINALITY AS named (name, id, place)
        LEFT JOIN rowcast_tables AS installed ON installed.id = named.id
        LEFT JOIN pg_class AS class ON class.oid = to_regclass(named.name)
        ORDER BY named.place
$$;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION rowcast_gap(oid, text) SET search_path = %I, pg_temp', current_schema());
END $$;
