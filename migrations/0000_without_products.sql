-- The first step of a database without products, in the place of 0001_products.sql to 0003_streams.sql: what those make
-- that tables need too, under the same names.

-- CACHE 1: a session that kept numbers in hand would use them after greater ones were committed.
CREATE SEQUENCE product_versions CACHE 1;

CREATE TABLE oversize_changes (
    version bigint PRIMARY KEY,
    message text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX oversize_changes_by_age ON oversize_changes (created_at);

CREATE TABLE rowcast_stream (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    channel text NOT NULL,
    epoch bigint NOT NULL,
    triggers text NOT NULL
);

-- There are no triggers of products.
CREATE FUNCTION rowcast_trigger_names() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT ARRAY[]::text[] $$;
CREATE FUNCTION rowcast_triggers() RETURNS text LANGUAGE sql STABLE AS $$ SELECT ''::text $$;
CREATE FUNCTION rowcast_triggers_off() RETURNS text LANGUAGE sql STABLE AS $$ SELECT NULL::text $$;

CREATE FUNCTION rowcast_random_epoch() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint
$$;

-- Whatever the owner's default privileges give to whom.
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN SELECT DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
        FROM pg_class, aclexplode(relacl) AS acl WHERE oid = 'rowcast_stream'::regclass AND acl.grantee <> relowner
    LOOP
        EXECUTE format('REVOKE ALL ON rowcast_stream FROM %s', grantee);
    END LOOP;
END $$;

INSERT INTO rowcast_stream (channel, epoch, triggers)
    SELECT 'rowcast_' || replace(gen_random_uuid()::text, '-', ''), rowcast_random_epoch(), rowcast_triggers();
