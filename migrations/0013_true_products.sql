-- What a write of a product answers is what is true once all triggers of the table have run, as for other tables
-- (rowcast_write in 0009_true_rows.sql): one of somebody else may have removed the row again, put it under another id, or
-- back. The functions that wrote before stay, for servers of the release before.

DO $make$
BEGIN
    IF to_regproc('product_locked') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE $function$
-- Writes one product, if it is as the writer demands: `insert` (of an id that must be free), `put` (of a whole row, new or
-- not), `patch` (a NULL leaves its column as it is) or `delete`. The columns are $2 to $6. The condition of an insert is
-- the caller's to see to.
--
-- Nothing is written where `fault` is not NULL: `absent`, `unmet` (the row is not as it was demanded) or `left` (by a
-- trigger of somebody else). Otherwise `written` is the row as it is afterwards; of one that is not there it has the id, and
-- the version of the removal, if that is known. An id that somebody else inserts meanwhile fails the write as a unique
-- violation: the server calls a `put` again then.
CREATE FUNCTION product_write(action text, bigint, text, text, bigint, text, presence boolean, wanted bigint[],
    unwanted bigint[], OUT fault text, OUT is_new boolean, OUT written products)
LANGUAGE plpgsql AS $$
DECLARE
    is_locked boolean := action <> 'insert' AND NOT (presence IS NULL AND wanted IS NULL AND unwanted IS NULL);
    current bigint;
    told bigint;
    newest bigint;
BEGIN
    is_new := false;
    IF is_locked THEN
        current := product_locked($2);
        is_new := current IS NULL;
        fault := CASE
            WHEN is_new AND action <> 'put' THEN 'absent'
            WHEN NOT product_meets(current, presence, wanted, unwanted) THEN 'unmet' END;
        IF fault IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;

    IF action = 'delete' THEN
        DELETE FROM products WHERE product_id = $2 RETURNING product_id INTO told;
    ELSIF action = 'patch' THEN
        UPDATE products SET manufacturer = coalesce($3, manufacturer), price_per_unit = coalesce($4, price_per_unit),
            units_available = coalesce($5, units_available), product_name = coalesce($6, product_name)
            WHERE product_id = $2 RETURNING * INTO written;
    ELSIF action = 'insert' OR is_new THEN
        is_new := true;
        INSERT INTO products (product_id, manufacturer, price_per_unit, units_available, product_name)
            VALUES ($2, $3, $4, $5, $6) RETURNING * INTO written;
    ELSIF is_locked THEN
        UPDATE products SET manufacturer = $3, price_per_unit = $4, units_available = $5, product_name = $6
            WHERE product_id = $2 RETURNING * INTO written;
    ELSE
        -- A row that was there is locked before it is replaced, which its xmax tells.
        INSERT INTO products AS product (product_id, manufacturer, price_per_unit, units_available, product_name)
            VALUES ($2, $3, $4, $5, $6)
            ON CONFLICT (product_id) DO UPDATE SET manufacturer = $3, price_per_unit = $4, units_available = $5,
                product_name = $6
            RETURNING product.xmax = 0, product.product_id, product.manufacturer, product.price_per_unit,
                product.units_available, product.product_name, product.version
            INTO is_new, written.product_id, written.manufacturer, written.price_per_unit,
                written.units_available, written.product_name, written.version;
    END IF;

    told := coalesce(told, written.product_id);
    IF told IS NULL THEN
        fault := CASE WHEN action IN ('patch', 'delete')
            AND NOT EXISTS (SELECT FROM products WHERE product_id = $2) THEN 'absent' ELSE 'left' END;
        RETURN;
    ELSIF action <> 'delete' THEN
        -- RETURNING was computed before the AFTER triggers; whatever they change gets another version. The greatest: an old
        -- snapshot may show the row that was deleted besides the one that was inserted.
        newest := (SELECT max(version) FROM products WHERE product_id = told);
        IF newest = written.version THEN
            RETURN;
        END IF;
        SELECT * INTO written FROM products WHERE product_id = told AND version = newest;
    END IF;
    IF written.product_id IS NULL THEN
        written.product_id := told;
        written.version := (SELECT version FROM product_tombstones WHERE product_id = told);
    END IF;
END $$
    $function$;
END $make$;
