-- Writes that are done only if the row is as the writer last saw it: If-Match and If-None-Match of HTTP
-- (RFC 9110, §13). Each reads the version with the row locked and writes in the same transaction, so that no other write
-- comes between. What they write, stamp and tell is as without a condition.
--
-- A condition is three arguments: `presence` (whether the row must be there or must not, NULL for either),
-- `wanted` (the versions that it may have, NULL for any) and `unwanted` (those that it may not, NULL for none).

CREATE FUNCTION product_meets(version bigint, presence boolean, wanted bigint[], unwanted bigint[]) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce((version IS NOT NULL) = presence, true)
        AND (wanted IS NULL OR coalesce(version = ANY (wanted), false))
        AND NOT coalesce(version = ANY (unwanted), false)
$$;

-- The version of a row that nobody else changes before this transaction ends; NULL where there is no such product.
CREATE FUNCTION product_locked(bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT version FROM products WHERE product_id = $1 FOR UPDATE);
END $$;

-- `met` is false where nothing was written. A product that another transaction inserts meanwhile fails the insert as a
-- key that is taken: the server calls again then.
CREATE FUNCTION product_put_if(bigint, text, text, bigint, text, presence boolean, wanted bigint[], unwanted bigint[],
    OUT met boolean, OUT is_new boolean, OUT new_version bigint)
LANGUAGE plpgsql AS $$
DECLARE
    current bigint := product_locked($1);
BEGIN
    met := product_meets(current, presence, wanted, unwanted);
    IF NOT met THEN
        RETURN;
    END IF;
    is_new := current IS NULL;
    IF is_new THEN
        new_version := product_insert($1, $2, $3, $4, $5);
    ELSE
        UPDATE products SET manufacturer = $2, price_per_unit = $3, units_available = $4, product_name = $5
            WHERE product_id = $1;
        new_version := (SELECT max(version) FROM products WHERE product_id = $1);
    END IF;
END $$;

-- `met` is NULL where there is no such product. A NULL leaves its column as it is.
CREATE FUNCTION product_patch_if(bigint, text, text, bigint, text, presence boolean, wanted bigint[], unwanted bigint[],
    OUT met boolean, OUT patched products)
LANGUAGE plpgsql AS $$
DECLARE
    current bigint := product_locked($1);
BEGIN
    IF current IS NULL THEN
        RETURN;
    END IF;
    met := product_meets(current, presence, wanted, unwanted);
    IF met THEN
        UPDATE products SET manufacturer = coalesce($2, manufacturer), price_per_unit = coalesce($3, price_per_unit),
            units_available = coalesce($4, units_available), product_name = coalesce($5, product_name)
            WHERE product_id = $1 RETURNING * INTO patched;
    END IF;
END $$;

-- `met` is NULL where there is no such product.
CREATE FUNCTION product_delete_if(bigint, presence boolean, wanted bigint[], unwanted bigint[],
    OUT met boolean, OUT new_version bigint)
LANGUAGE plpgsql AS $$
DECLARE
    current bigint := product_locked($1);
BEGIN
    IF current IS NULL THEN
        RETURN;
    END IF;
    met := product_meets(current, presence, wanted, unwanted);
    IF met THEN
        new_version := product_delete($1);
    END IF;
END $$;
