-- `row_to_json(found)` is the column of that name where the table has one, and `found.*` is always the row
-- (https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-USAGE).
DO $$
DECLARE
    reader regproc;
BEGIN
    FOREACH reader IN ARRAY ARRAY['rowcast_load', 'rowcast_page', 'rowcast_write']::regproc[] LOOP
        EXECUTE regexp_replace(pg_get_functiondef(reader), '(row_to_json|rowcast_rendered)\(found\)', '\1(found.*)');
    END LOOP;
END $$;
