-- The stream of changes gets a channel that nobody else knows, and its history of versions a name.
--
-- The channel's name is drawn here and stands in a table that only the owner and the server's roles may read: who does
-- not know it can neither notify it nor listen to it, and another schema's products have another one. The functions
-- read it from there, since everybody may read the text of a function.

-- Servers of the releases before this migration listen to another channel and would hear nothing any more. Sessions of
-- theirs are known by the name that they give themselves; one whose database URL gives another is not found.
DO $$
DECLARE
    sessions text := (SELECT string_agg(pid::text, ', ' ORDER BY pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'rowcast' AND pid <> pg_backend_pid());
BEGIN
    IF sessions IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format(
            'a Rowcast of an older release uses this database (the sessions %s) and would hear no change after this migration',
            sessions);
    END IF;
END $$;

-- One row. Versions mean something within one epoch only; `triggers` is how the triggers stood when it began.
CREATE TABLE rowcast_stream (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    channel text NOT NULL,
    epoch bigint NOT NULL,
    triggers text NOT NULL
);

-- The names of the triggers that Rowcast needs on `products`.
CREATE FUNCTION rowcast_trigger_names() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY['00_rowcast', 'zz_rowcast', 'zz_rowcast_truncate']
$$;

-- The triggers, with whether they are on and the transaction that last touched them: a trigger that was off for a time
-- differs from before, however it is now. So does one that was made anew from a dump.
CREATE FUNCTION rowcast_triggers() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(string_agg(format('%s %s %s', tgname, tgenabled, xmin), ', ' ORDER BY tgname), '') FROM pg_trigger
        WHERE tgrelid = to_regclass('products') AND tgname = ANY (rowcast_trigger_names())
$$;

-- The names of those that are not there or off; NULL where there are none.
CREATE FUNCTION rowcast_triggers_off() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(name, ', ' ORDER BY name) FROM unnest(rowcast_trigger_names()) AS name WHERE NOT EXISTS (
        SELECT FROM pg_trigger
            WHERE tgrelid = to_regclass('products') AND tgname = name AND tgenabled IN ('A', 'O'))
$$;

-- Never 0: a UUID of this kind has a 4 among its first 16 digits.
CREATE FUNCTION rowcast_random_epoch() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint
$$;

-- Begins a new epoch, unless `expected` is not the one that stands: then another server has begun one. Answers the epoch
-- that stands. Versions go on above all that is in the tables and above `floor`. No writer is under way meanwhile, so that
-- a version that was drawn before is in the tables, and all others are above them.
CREATE FUNCTION rowcast_renew_epoch(expected bigint, floor bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    stream rowcast_stream;
    trigger_name name;
BEGIN
    LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO STRICT stream FROM rowcast_stream FOR UPDATE;
    IF stream.epoch <> expected THEN
        RETURN stream.epoch;
    END IF;
    FOR trigger_name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'products'::regclass
        AND tgname = ANY (rowcast_trigger_names()) AND tgenabled = 'O'
    LOOP
        EXECUTE format('ALTER TABLE products ENABLE ALWAYS TRIGGER %I', trigger_name);
    END LOOP;
    PERFORM setval('product_versions', greatest(floor, (SELECT last_value FROM product_versions),
        (SELECT max(version) FROM products), (SELECT max(version) FROM product_tombstones)));
    UPDATE rowcast_stream SET epoch = rowcast_random_epoch(), triggers = rowcast_triggers() RETURNING * INTO stream;
    PERFORM pg_notify(stream.channel, format('epoch %s', stream.epoch));
    RETURN stream.epoch;
END $$;

-- The time since which a tombstone has its horizon: readers, loads and servers that are behind may need it for a while
-- after no insert does.
ALTER TABLE product_tombstones ADD COLUMN marked_at timestamptz;

-- As in 0001_products.sql, but on the channel of the table above, and never with bytes that a server cannot read: the
-- message of a row that is not text in UTF-8, which a database in another encoding may hold, is its id alone.
CREATE OR REPLACE FUNCTION product_notify(action text, version bigint, product products) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    head text := format('{"action":"%s","version":%s,', action, version);
    id_alone text := head || format('"product":{"productId":%s}}', product.product_id);
    message text := head || format(
        '"product":{"productId":%s,"manufacturer":%s,"pricePerUnit":%s,"unitsAvailable":%s,"productName":%s}}',
        product.product_id, to_json(product.manufacturer), to_json(product.price_per_unit),
        product.units_available, to_json(product.product_name));
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        BEGIN
            PERFORM convert_to(message, 'UTF8');
        EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
            message := id_alone;
        END;
    END IF;
    IF octet_length(message) > 1048576 THEN
        message := id_alone;
    ELSIF octet_length(message) > 7999 THEN
        INSERT INTO oversize_changes (version, message) VALUES (version, message);
        message := head || format('"productId":%s}', product.product_id);
    END IF;
    PERFORM pg_notify(channel, message) FROM rowcast_stream;
END $$;

-- As in 0001_products.sql, but a policy of row-level security that hides the row from the triggers' owner does not hide
-- its change: a row that is not found then is taken for the newest, and a version that is not the newest is dropped by who
-- hears it.
CREATE OR REPLACE FUNCTION product_after() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    is_insert boolean := TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.product_id <> OLD.product_id;
    is_delete boolean := TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND NEW.product_id <> OLD.product_id;
    buried bigint;
BEGIN
    IF is_delete THEN
        SELECT version INTO buried FROM product_tombstones WHERE product_id = OLD.product_id;
        IF FOUND THEN
            PERFORM product_notify('DELETE', buried, OLD);
        END IF;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN NULL;
    END IF;

    PERFORM FROM products WHERE product_id = NEW.product_id AND version = NEW.version;
    IF NOT FOUND AND NOT row_security_active(TG_RELID) THEN
        RETURN NULL;
    END IF;

    IF is_insert AND product_insert_needs_a_newer_version(NEW.product_id, NEW.version) THEN
        PERFORM set_config('rowcast.restamped', NEW.product_id::text, true);
        UPDATE products SET version = version WHERE product_id = NEW.product_id AND version = NEW.version;
        IF NOT FOUND AND row_security_active(TG_RELID) THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
                MESSAGE = 'row-level security hides the product from the owner of Rowcast''s triggers, which must give it a newer version',
                HINT = format('Let the role %I bypass row-level security (ALTER ROLE ... BYPASSRLS).', current_user);
        END IF;
        PERFORM set_config('rowcast.restamped', '', true);
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND current_setting('rowcast.restamped', true) = NEW.product_id::text THEN
        is_insert := true;
        PERFORM set_config('rowcast.restamped', '', true);
    END IF;
    PERFORM product_notify(CASE WHEN is_insert THEN 'INSERT' ELSE 'UPDATE' END, NEW.version, NEW);
    RETURN NULL;
END $$;

-- Writers whose session_replication_role is `replica` fire them too.
ALTER TABLE products ENABLE ALWAYS TRIGGER zz_rowcast;
ALTER TABLE products ENABLE ALWAYS TRIGGER "00_rowcast";
ALTER TABLE products ENABLE ALWAYS TRIGGER zz_rowcast_truncate;

DO $$
DECLARE
    name text;
    grantee text;
BEGIN
    EXECUTE format('ALTER FUNCTION product_after() SET search_path = %I, pg_temp', current_schema());
    ALTER FUNCTION product_after() SET row_security = on;
    EXECUTE format('ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET search_path = %I, pg_temp', current_schema());
    ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET lock_timeout = '2s';
    ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET row_security = off;

    -- Who may execute a function can make a trigger of his own table call it, with the rights of its owner.
    FOREACH name IN ARRAY ARRAY['product_before()', 'product_after()', 'product_before_truncate()',
        'rowcast_renew_epoch(bigint, bigint)']
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
    END LOOP;

    -- Whatever the owner's default privileges give to whom.
    FOR grantee IN SELECT DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
        FROM pg_class, aclexplode(relacl) AS acl WHERE oid = 'rowcast_stream'::regclass AND acl.grantee <> relowner
    LOOP
        EXECUTE format('REVOKE ALL ON rowcast_stream FROM %s', grantee);
    END LOOP;
    -- The roles of servers are those that may remove tombstones.
    FOR grantee IN SELECT DISTINCT acl.grantee::regrole::text
        FROM pg_class, aclexplode(relacl) AS acl
        WHERE oid = 'product_tombstones'::regclass AND acl.grantee NOT IN (relowner, 0)
            AND acl.privilege_type = 'DELETE'
    LOOP
        EXECUTE format('GRANT SELECT ON rowcast_stream TO %s', grantee);
        EXECUTE format('GRANT EXECUTE ON FUNCTION rowcast_renew_epoch(bigint, bigint) TO %s', grantee);
    END LOOP;
END $$;

INSERT INTO rowcast_stream (channel, epoch, triggers)
    SELECT 'rowcast_' || replace(gen_random_uuid()::text, '-', ''), rowcast_random_epoch(), rowcast_triggers();
