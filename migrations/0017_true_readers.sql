-- A row that cannot be read has its version all the same: who shows it as it was learns that it is another one.

-- A text, or NULL where it cannot be sent in UTF-8 (0004_tables.sql). Servers read with it.
GRANT EXECUTE ON FUNCTION rowcast_sendable(text) TO PUBLIC;

-- The row with this key, or the tombstone of this key, as rowcast_load reads them (0005_table_rows.sql). Where its data is
-- the reason for which it cannot be read, or sent in UTF-8, it comes without its text. The other classes of errors are those
-- that say nothing of a row (src/store/postgres/sqlstate.rs).
CREATE FUNCTION rowcast_load_one(table_id int, wanted text)
RETURNS TABLE (key text, version bigint, is_there boolean, row_text text) LANGUAGE plpgsql STABLE AS $$
DECLARE
    installed record;
BEGIN
    RETURN QUERY SELECT found.key, found.version, found.is_there, rowcast_sendable(found.row_text)
        FROM rowcast_load(table_id, ARRAY[wanted], 0) AS found;
EXCEPTION WHEN OTHERS THEN
    IF SQLSTATE ~ '^(03|08|0[ABFLPZ]|2[4-8BDF]|3[49BDF]|3800[13]|4[02]|5[3578]|72|F0|HV|XX|RC)' AND SQLSTATE <> 'XX001' THEN
        RAISE;
    END IF;
    installed := rowcast_table(table_id);
    RETURN QUERY EXECUTE format(
        'SELECT found.%1$s::text, found.rowcast_version, true, NULL::text FROM %2$s AS found WHERE found.%1$s = $1::%3$s',
        installed.key, installed.name, installed.key_type) USING wanted;
END $$;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION rowcast_load_one(int, text) SET search_path = %I, pg_temp', current_schema());
END $$;

-- The timeline of the database, which is another one once a standby was promoted or a backup restored up to a time; NULL where
-- that cannot be known.
CREATE FUNCTION rowcast_timeline() RETURNS int LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- Not pg_control_checkpoint(): that is the timeline of the last checkpoint.
    RETURN ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- The place in the WAL up to which all is on disk, as a number of bytes; NULL where that cannot be known. It never goes back,
-- also where the database crashes, unless its files are replaced by those of an earlier time.
CREATE FUNCTION rowcast_flushed() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN pg_current_wal_flush_lsn() - '0/0';
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- That of the time at which the epoch began: commits may have been lost since where it is another one.
ALTER TABLE rowcast_stream ADD COLUMN timeline int;
UPDATE rowcast_stream SET timeline = rowcast_timeline();

-- Returns why the history of this epoch is not the one in which it began, if so: `below` (a version was drawn that is not above
-- that of its row), `cache` (sessions draw versions ahead, so that a later change may have a lower one) or `timeline`.
CREATE FUNCTION rowcast_replaced() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT CASE
        WHEN counted.last_value <> versions_below THEN 'below'
        WHEN (SELECT seqcache <> 1 FROM pg_sequence WHERE seqrelid = 'product_versions'::regclass) THEN 'cache'
        WHEN timeline <> rowcast_timeline() THEN 'timeline'
    END FROM rowcast_versions_below AS counted, rowcast_stream
$$;

-- As in 0014_versions_below.sql, with the timeline, and without a cache of the sequence.
CREATE OR REPLACE FUNCTION rowcast_renew_epoch(expected bigint, floor bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '2s' SET row_security = off AS $$
DECLARE
    stream rowcast_stream;
    has_products boolean := to_regclass('product_tombstones') IS NOT NULL;
    highest bigint := floor;
    trigger_name name;
    installed record;
BEGIN
    IF has_products THEN
        LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    FOR installed IN SELECT relation::text AS name FROM rowcast_tables JOIN pg_class ON oid = relation ORDER BY relation LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', installed.name);
    END LOOP;
    SELECT * INTO STRICT stream FROM rowcast_stream FOR UPDATE;
    IF stream.epoch <> expected THEN
        RETURN stream.epoch;
    END IF;
    FOR trigger_name IN SELECT tgname FROM pg_trigger WHERE has_products AND tgrelid = to_regclass('products')
        AND tgname = ANY (rowcast_trigger_names()) AND tgenabled = 'O'
    LOOP
        EXECUTE format('ALTER TABLE products ENABLE ALWAYS TRIGGER %I', trigger_name);
    END LOOP;
    IF has_products THEN
        highest := greatest(highest, (SELECT max(version) FROM products), (SELECT max(version) FROM product_tombstones));
    END IF;
    -- The versions of tables' rows need not be looked at: a row is never stamped below the version that it has.
    highest := greatest(highest, (SELECT last_value FROM product_versions), (SELECT max(version) FROM rowcast_tombstones));
    IF (SELECT seqcache <> 1 FROM pg_sequence WHERE seqrelid = 'product_versions'::regclass) THEN
        -- A sequence that is begun anew has another file, and sessions forget what they have drawn ahead of the last one.
        EXECUTE format('ALTER SEQUENCE product_versions CACHE 1 RESTART WITH %s', highest);
    END IF;
    PERFORM setval('product_versions', highest);
    UPDATE rowcast_served SET epoch = NULL;
    -- Nobody draws meanwhile: all tables are locked.
    UPDATE rowcast_stream SET epoch = rowcast_random_epoch(), triggers = rowcast_triggers(),
        versions_below = (SELECT last_value FROM rowcast_versions_below), timeline = rowcast_timeline()
        RETURNING * INTO stream;
    PERFORM pg_notify(stream.channel, format('epoch %s', stream.epoch));
    RETURN stream.epoch;
END $$;

-- As in 0007_table_epochs.sql, and those whose functions belong to a role that cannot tell a change, nor that there was one: they
-- fail no write, and nobody would hear of it.
CREATE OR REPLACE FUNCTION rowcast_table_triggers_off(relation oid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(wanted || CASE WHEN tgname IS NULL THEN ' is missing' WHEN tgenabled <> 'A' THEN ' is off'
            ELSE ' lacks rights' END, ', ' ORDER BY wanted)
        FROM unnest(ARRAY['00_rowcast', 'zz_rowcast', 'zz_rowcast_truncate']) AS wanted
        LEFT JOIN (pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid) ON tgrelid = relation AND tgname = wanted
        WHERE tgenabled IS DISTINCT FROM 'A'
            OR NOT (has_sequence_privilege(proowner, 'product_versions'::regclass, 'USAGE, UPDATE')
                AND has_table_privilege(proowner, 'rowcast_stream'::regclass, 'SELECT')
                AND has_function_privilege(proowner, 'rowcast_gap(oid, text)'::regprocedure, 'EXECUTE')
                AND has_function_privilege(proowner, 'rowcast_version_below()'::regprocedure, 'EXECUTE'))
$$;

-- As in 0015_told_columns.sql, with the casts to json and their functions: what row_to_json shows of a type that somebody made
-- (https://www.postgresql.org/docs/current/functions-json.html, to_json).
CREATE OR REPLACE FUNCTION rowcast_types(relation oid) RETURNS text LANGUAGE sql STABLE AS $$
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
                FROM pg_attribute WHERE attrelid = (SELECT typrelid FROM pg_type WHERE pg_type.oid = type.oid) AND attnum > 0),
            (SELECT concat_ws(' ', 'cast', pg_cast.oid, pg_cast.xmin, (SELECT xmin FROM pg_proc WHERE pg_proc.oid = castfunc))
                FROM pg_cast WHERE castsource = type.oid AND casttarget = 'json'::regtype)
        ), '; ' ORDER BY type.oid)), '') FROM type
$$;

-- As in 0016_untold_changes.sql, and `triggers` is another one too where the schema of the table, or that of Rowcast, was
-- altered in any way: while it had another name, nothing was found that the functions name.
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
        (SELECT concat_ws(' ', (SELECT xmin FROM pg_namespace WHERE pg_namespace.oid = class.relnamespace),
                string_agg(concat_ws(' ', tgname, pg_trigger.xmin, pg_proc.xmin,
                    (SELECT xmin FROM pg_namespace WHERE pg_namespace.oid = pronamespace)), ', ' ORDER BY tgname))
            FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
            WHERE tgrelid = class.oid AND tgname = ANY (ARRAY['00_rowcast', 'zz_rowcast', 'zz_rowcast_truncate'])
            AND tgenabled = 'A' HAVING count(*) = 3)
        FROM unnest(names, table_ids) WITH ORDINALITY AS named (name, id, place)
        LEFT JOIN rowcast_tables AS installed ON installed.id = named.id
        LEFT JOIN pg_class AS class ON class.oid = to_regclass(named.name)
        ORDER BY named.place
$$;

-- The first column of a table, beside these, whose values are shown by the names of other things, and its type: a thing that is
-- renamed changes no row. What such types are made of counts: elements, attributes, and what domains are made of.
CREATE FUNCTION rowcast_naming_column(relation oid, hidden text[], OUT name text, OUT type text) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE part AS (
        SELECT attnum, atttypid AS oid FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
            AND attname <> ALL (hidden)
        UNION SELECT attnum, inner_type FROM part CROSS JOIN LATERAL unnest((
            SELECT ARRAY[typelem, typbasetype]
                || ARRAY(SELECT rngsubtype FROM pg_range WHERE rngtypid = pg_type.oid)
                || ARRAY(SELECT rngsubtype FROM pg_range WHERE rngmultitypid = pg_type.oid)
                || ARRAY(SELECT atttypid FROM pg_attribute WHERE attrelid = typrelid AND pg_attribute.attnum > 0
                    AND NOT attisdropped)
            FROM pg_type WHERE pg_type.oid = part.oid)) AS inner_type
        WHERE inner_type <> 0)
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = relation AND attnum = (
        SELECT min(attnum) FROM part JOIN pg_type USING (oid) WHERE typnamespace = 'pg_catalog'::regnamespace
            AND typname IN ('regclass', 'regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper', 'regoperator',
                'regproc', 'regprocedure', 'regrole', 'regtype', 'aclitem'))
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['rowcast_replaced()', 'rowcast_renew_epoch(bigint, bigint)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;
