-- Products, and what tells Rowcast of every committed change of one.
--
-- Anyone with INSERT, UPDATE or DELETE on `products` may write it with plain SQL and need not name `version`: the
-- triggers stamp it, build the message that subscribers get and notify `product_change` with it.
--
-- The rule kept here: the versions of one product grow in the order in which its changes commit, deletes included.

CREATE TABLE products (
    product_id bigint PRIMARY KEY CHECK (product_id BETWEEN 0 AND 9007199254740991),
    manufacturer text NOT NULL,
    price_per_unit text NOT NULL,
    units_available bigint NOT NULL,
    product_name text NOT NULL,
    version bigint NOT NULL
);

-- CACHE 1: a session that kept numbers in hand would use them after greater ones were committed.
CREATE SEQUENCE product_versions CACHE 1;

-- The version of the delete that a product ended with, for the insert that may follow (see product_after).
-- `horizon` is set and read by the listener, which removes the tombstones that no insert can need any more.
CREATE TABLE product_tombstones (
    product_id bigint PRIMARY KEY,
    version bigint NOT NULL,
    horizon xid8
);

-- The messages that are too long for NOTIFY. The listener reads them by version and removes the old ones.
CREATE TABLE oversize_changes (
    version bigint PRIMARY KEY,
    message text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX oversize_changes_by_age ON oversize_changes (created_at);

-- Draws the version of a change. An update and a delete draw while they hold the row's lock, which a row trigger is
-- called under; an insert draws before the unique check, which may make it wait: product_after repairs that.
CREATE FUNCTION product_before() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- The transaction gets its number before the row gets its version: a tombstone's horizon relies on it.
        PERFORM pg_current_xact_id();
    ELSIF TG_OP = 'DELETE' OR NEW.product_id IS DISTINCT FROM OLD.product_id THEN
        INSERT INTO product_tombstones (product_id, version) VALUES (OLD.product_id, nextval('product_versions'))
            ON CONFLICT (product_id) DO UPDATE SET version = excluded.version, horizon = NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    NEW.version := nextval('product_versions');
    RETURN NEW;
END $$;

-- Notifies a change, in the order in which the statements of a transaction made them. An update that changes the key
-- is the delete of one product and the insert of another.
CREATE FUNCTION product_after() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    is_insert boolean := TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.product_id <> OLD.product_id;
    is_delete boolean := TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND NEW.product_id <> OLD.product_id;
    buried bigint;
BEGIN
    IF is_delete THEN
        -- There is no tombstone where a trigger of somebody else inserted the product anew before this one was
        -- called: its newer version is notified already.
        SELECT version INTO buried FROM product_tombstones WHERE product_id = OLD.product_id;
        IF FOUND THEN
            PERFORM product_notify('DELETE', buried, OLD);
        END IF;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN NULL;
    END IF;

    -- Likewise where a trigger of somebody else changed or deleted the row since.
    PERFORM FROM products WHERE product_id = NEW.product_id AND version = NEW.version;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    IF is_insert AND product_insert_needs_a_newer_version(NEW.product_id, NEW.version) THEN
        -- This update gets its version like any other and is notified as the insert, by the branch below. The row is
        -- found by its version too: an old snapshot shows the deleted one besides it.
        PERFORM set_config('rowcast.restamped', NEW.product_id::text, true);
        UPDATE products SET version = version WHERE product_id = NEW.product_id AND version = NEW.version;
        PERFORM set_config('rowcast.restamped', '', true);
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND current_setting('rowcast.restamped', true) = NEW.product_id::text THEN
        is_insert := true;
        -- Taken back at once: the triggers that follow may update the same product in earnest.
        PERFORM set_config('rowcast.restamped', '', true);
    END IF;
    PERFORM product_notify(CASE WHEN is_insert THEN 'INSERT' ELSE 'UPDATE' END, NEW.version, NEW);
    RETURN NULL;
END $$;

-- Whether the product was deleted, and that delete committed, after its insert drew `drawn`. Under READ COMMITTED
-- every statement has a snapshot of its own, so that this one sees the tombstone of any delete that the unique check
-- waited for. Under the stricter levels the snapshot may hide it: then every insert draws again.
-- https://www.postgresql.org/docs/15/transaction-iso.html
CREATE FUNCTION product_insert_needs_a_newer_version(id bigint, drawn bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    buried bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN true;
    END IF;
    DELETE FROM product_tombstones WHERE product_id = id RETURNING version INTO buried;
    RETURN coalesce(buried > drawn, false);
END $$;

-- Tells the listeners: with the whole message where NOTIFY takes it (less than 8000 bytes), with the number under
-- which it is stored up to 1 MiB, and above that with the product's id alone. No size fails the writer.
-- https://www.postgresql.org/docs/15/sql-notify.html
CREATE FUNCTION product_notify(action text, version bigint, product products) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    head text := format('{"action":"%s","version":%s,', action, version);
    message text := head || format(
        '"product":{"productId":%s,"manufacturer":%s,"pricePerUnit":%s,"unitsAvailable":%s,"productName":%s}}',
        product.product_id, to_json(product.manufacturer), to_json(product.price_per_unit),
        product.units_available, to_json(product.product_name));
BEGIN
    IF octet_length(message) > 1048576 THEN
        message := head || format('"product":{"productId":%s}}', product.product_id);
    ELSIF octet_length(message) > 7999 THEN
        INSERT INTO oversize_changes (version, message) VALUES (version, message);
        message := head || format('"productId":%s}', product.product_id);
    END IF;
    PERFORM pg_notify('product_change', message);
END $$;

-- A TRUNCATE reaches subscribers as the deletes that it is (and takes as long as they do).
CREATE FUNCTION product_before_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM products;
    RETURN NULL;
END $$;

-- Triggers are called in the order of their names. The stamp comes last, so that it sees the row as the triggers of
-- others left it; the notification comes first, so that what those do next is notified after it.
-- https://www.postgresql.org/docs/15/trigger-definition.html
CREATE TRIGGER zz_rowcast BEFORE INSERT OR UPDATE OR DELETE ON products
    FOR EACH ROW EXECUTE FUNCTION product_before();
CREATE TRIGGER "00_rowcast" AFTER INSERT OR UPDATE OR DELETE ON products
    FOR EACH ROW EXECUTE FUNCTION product_after();
CREATE TRIGGER zz_rowcast_truncate BEFORE TRUNCATE ON products
    FOR EACH STATEMENT EXECUTE FUNCTION product_before_truncate();

-- The triggers run with the rights of their owner, so that a writer needs none but those on `products`. Their
-- search_path is therefore fixed, with the schema for temporary objects last.
-- https://www.postgresql.org/docs/15/sql-createfunction.html#SQL-CREATEFUNCTION-SECURITY
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['product_before', 'product_after', 'product_before_truncate'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;

-- What the server writes with. RETURNING is computed before AFTER triggers run, so it would answer an insert with a
-- version that product_after may replace, and it cannot answer a delete with its version at all; a statement that
-- follows in the same transaction can. It takes the greatest, since an old snapshot may show the row that was deleted
-- besides the one that was inserted. Arguments: product_id, manufacturer, price_per_unit, units_available, product_name.

CREATE FUNCTION product_insert(bigint, text, text, bigint, text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO products (product_id, manufacturer, price_per_unit, units_available, product_name)
        VALUES ($1, $2, $3, $4, $5);
    RETURN (SELECT max(version) FROM products WHERE product_id = $1);
END $$;

CREATE FUNCTION product_put(bigint, text, text, bigint, text, OUT is_new boolean, OUT new_version bigint)
LANGUAGE plpgsql AS $$
BEGIN
    -- A row that was there is locked before it is replaced, which its xmax tells.
    INSERT INTO products AS product (product_id, manufacturer, price_per_unit, units_available, product_name)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (product_id) DO UPDATE SET manufacturer = $2, price_per_unit = $3, units_available = $4,
            product_name = $5
        RETURNING product.xmax = 0 INTO is_new;
    SELECT max(version) INTO new_version FROM products WHERE product_id = $1;
END $$;

-- NULL where there is no such product.
CREATE FUNCTION product_delete(bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM products WHERE product_id = $1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT version FROM product_tombstones WHERE product_id = $1);
END $$;
