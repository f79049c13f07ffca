
-- Stamps a row (src/store/postgres/tables/before.sql). Keys: {kind}
BEGIN
    IF TG_OP = 'INSERT' OR NEW.{key} IS DISTINCT FROM OLD.{key} THEN
        -- The transaction gets its number before the row gets its version: a tombstone's horizon relies on it.
        PERFORM pg_current_xact_id();
        IF coalesce(current_setting('rowcast.deletes_{id}', true), '') = '' THEN
            -- The deletes that were counted before this transaction drew its first version for a new key.
            PERFORM set_config('rowcast.deletes_{id}', coalesce(pg_sequence_last_value({deletes}), 0)::text, true);
        END IF;
    END IF;
    NEW.rowcast_version := nextval({versions});
    IF TG_OP = 'UPDATE' AND NEW.rowcast_version <= OLD.rowcast_version THEN
        -- Somebody set the sequence back. It is lifted far above this row, since others have versions above it: each of them
        -- would have an epoch begin. The count tells it where this transaction does not commit.
        PERFORM {schema}.rowcast_version_below();
        PERFORM setval({versions}, greatest(OLD.rowcast_version, pg_sequence_last_value({versions}),
            least(OLD.rowcast_version + {left_out}, 9007199254740990)));
        NEW.rowcast_version := nextval({versions});
        -- What was drawn meanwhile may be below what readers were told; the sequence does not show it any more.
        PERFORM {schema}.rowcast_gap(TG_RELID, 'replaced');
    END IF;
    RETURN NEW;
EXCEPTION WHEN OTHERS THEN
    BEGIN
        -- The row changes under the version that it had, of which readers know another row: no read shows them that.
        PERFORM {schema}.rowcast_version_below();
        PERFORM {schema}.rowcast_gap(TG_RELID, SQLSTATE);
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    RETURN NEW;
END
