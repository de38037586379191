-- The change log: what tells data planes that something is new. It may be run again at any time.
--
-- Configuration (few writers, order matters). One counter row. Every transaction that changes a
-- configuration table moves it on by one, once, and keeps it locked until it ends: so writers queue,
-- a version is visible only after all before it, and none is left out. What changed stands in
-- silverback_changes; a follower that is at version n reads what is above n.
--
--     BEFORE statement   lock the counter, before any row of the table: all writers lock in one
--                        order, so that two of them cannot wait for each other
--     AFTER statement    something changed? then version + 1 (once a transaction), record, NOTIFY
--
-- Consumers and credentials (millions of rows, parallel imports, order does not matter). No shared
-- row: each statement leaves a row in silverback_invalidations with its transaction's number.
-- Readers remember the snapshot of their last reading and take what is visible now and was not then.
--
-- A statement that touches more than 1,000 rows is one entry without ids: all of this table.
-- Everything is recorded by the owner of these functions, whoever writes: a role needs rights on
-- Kong's tables only.

CREATE TABLE IF NOT EXISTS silverback_version (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL,
    mark    bigint NOT NULL,        -- random: tells this version from one of the same number in a
                                    -- past that a restore or a failover has cut off
    txid    bigint NOT NULL,        -- the transaction that made it ...
    at      timestamptz NOT NULL    -- ... and when that began
) WITH (fillfactor = 20);

-- mark: as above. entity: the table. ids: NULL means all of it. The first row after this script has
-- entity '' and stands for the version from which on the log is whole.
CREATE TABLE IF NOT EXISTS silverback_changes (
    version bigint NOT NULL,
    mark    bigint NOT NULL,
    entity  text NOT NULL,
    op      text NOT NULL,
    ids     uuid[],
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS silverback_changes_version_idx ON silverback_changes (version);

-- keys: "column=value" for each column by which rows of the table are looked up; before and after.
CREATE TABLE IF NOT EXISTS silverback_invalidations (
    txid   bigint NOT NULL DEFAULT txid_current(),
    entity text NOT NULL,
    op     text NOT NULL,
    keys   text[],
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS silverback_invalidations_txid_idx ON silverback_invalidations (txid);

-- Invalidations of transactions up to this one may be gone.
CREATE TABLE IF NOT EXISTS silverback_pruned (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    txid bigint NOT NULL
);

-- Who serves which version.
CREATE TABLE IF NOT EXISTS silverback_nodes (
    id         uuid PRIMARY KEY,
    hostname   text NOT NULL,
    release    text NOT NULL,
    version    bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The number of the control plane that may write.
CREATE TABLE IF NOT EXISTS silverback_leader (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch  bigint NOT NULL,
    holder text NOT NULL,
    since  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO silverback_leader (epoch, holder) VALUES (0, '') ON CONFLICT DO NOTHING;

-- From here on the log is whole. What followers knew before is of no use: triggers may have been
-- missing.
DELETE FROM silverback_changes;
INSERT INTO silverback_version AS v (version, mark, txid, at)
    VALUES (1, floor(random() * 9007199254740992), txid_current(), now())
    ON CONFLICT (one) DO UPDATE SET version = v.version + 1, mark = EXCLUDED.mark,
                                    txid = EXCLUDED.txid, at = EXCLUDED.at;
INSERT INTO silverback_changes (version, mark, entity, op, ids)
    SELECT version, mark, '', 'START', '{}' FROM silverback_version;
INSERT INTO silverback_pruned (txid) VALUES (txid_current())
    ON CONFLICT (one) DO UPDATE SET txid = EXCLUDED.txid;

-- Forgets what is both older than keep and not among the newest keep_versions versions: whole
-- versions only, and never the newest; and of the invalidations, what is older than keep (at most 10,000 statements' at a
-- time). The triggers call it now and then.
CREATE OR REPLACE FUNCTION silverback_prune(keep_versions bigint DEFAULT 10000,
                                            keep interval DEFAULT '1 hour')
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    upto bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('silverback prune'), 0) THEN
        RETURN; -- another one does it
    END IF;
    SELECT least(v.version - greatest(keep_versions, 1),
                 (SELECT min(c.version) - 1 FROM silverback_changes c
                  WHERE c.at >= clock_timestamp() - keep))
        INTO upto FROM silverback_version v;
    DELETE FROM silverback_changes WHERE version <= upto;

    SELECT max(i.txid) INTO upto
        FROM (SELECT txid, at FROM silverback_invalidations ORDER BY txid LIMIT 10000) i
        WHERE i.at < clock_timestamp() - keep;
    IF upto IS NOT NULL THEN
        UPDATE silverback_pruned SET txid = greatest(txid, upto);
        DELETE FROM silverback_invalidations WHERE txid <= upto;
    END IF;
END
$$;

-- BEFORE: join the queue of writers. A cascade finds itself in it already when its parent is
-- configuration; when its parent is a consumer, most often nothing here changes, and thousands of
-- them may be deleted at once: those wait only when there is something to record.
CREATE OR REPLACE FUNCTION silverback_queue() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF pg_trigger_depth() = 1 THEN
        PERFORM FROM silverback_version FOR NO KEY UPDATE;
    END IF;
    RETURN NULL;
END
$$;

-- AFTER: record what changed.
CREATE OR REPLACE FUNCTION silverback_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    changed uuid[];
    v       record;
BEGIN
    IF TG_OP = 'INSERT' THEN
        changed := ARRAY(SELECT id FROM new_rows LIMIT 1001);
    ELSIF TG_OP = 'DELETE' THEN
        changed := ARRAY(SELECT id FROM old_rows LIMIT 1001);
    ELSIF TG_OP = 'UPDATE' THEN
        changed := ARRAY(SELECT id FROM new_rows UNION SELECT id FROM old_rows LIMIT 1001);
    END IF;
    IF cardinality(changed) = 0 THEN
        RETURN NULL;
    END IF;
    IF cardinality(changed) > 1000 THEN
        changed := NULL;
    END IF;

    UPDATE silverback_version AS s
        SET version = s.version + 1, mark = floor(random() * 9007199254740992),
            txid = txid_current(), at = now()
        WHERE s.txid <> txid_current() OR s.at <> now()
        RETURNING s.version, s.mark INTO v;
    IF v IS NULL THEN
        SELECT s.version, s.mark INTO v FROM silverback_version s;
    ELSIF v.version % 1024 = 0 THEN
        PERFORM silverback_prune();
    END IF;
    INSERT INTO silverback_changes (version, mark, entity, op, ids)
        VALUES (v.version, v.mark, TG_TABLE_NAME, TG_OP, changed);
    PERFORM pg_notify('silverback_changes', v.version::text);
    RETURN NULL;
END
$$;

-- AFTER, for what workers look up on demand. The arguments are the columns by which they do.
--
-- Committing a NOTIFY takes a lock that the whole server shares, which would line up the commits of a
-- parallel import. What ends something is always announced. New rows matter only to those who
-- remember that there were none: of the transactions that only add, one at a time announces, and the
-- others hold a shared lock by which readers that are woken see that they must look again.
CREATE OR REPLACE FUNCTION silverback_invalidate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    touched jsonb[];
    names   text[];
BEGIN
    -- What has expired ends by itself: clearing it away needs no word.
    IF TG_OP = 'INSERT' THEN
        touched := ARRAY(SELECT to_jsonb(n) FROM new_rows n LIMIT 1001);
    ELSIF TG_OP = 'DELETE' THEN
        touched := ARRAY(SELECT j FROM (SELECT to_jsonb(o) AS j FROM old_rows o) r
                         WHERE coalesce((j->>'ttl')::timestamptz > now(), true) LIMIT 1001);
    ELSIF TG_OP = 'UPDATE' THEN
        touched := ARRAY(SELECT to_jsonb(n) FROM new_rows n LIMIT 1001) ||
                   ARRAY(SELECT to_jsonb(o) FROM old_rows o LIMIT 1001);
    END IF;
    IF cardinality(touched) = 0 THEN
        RETURN NULL;
    END IF;
    IF cardinality(touched) <= (CASE TG_OP WHEN 'UPDATE' THEN 2000 ELSE 1000 END) THEN
        names := ARRAY(SELECT DISTINCT k || '=' || (j->>k)
                       FROM unnest(touched) j, unnest(TG_ARGV) k WHERE j->>k IS NOT NULL);
    END IF;

    INSERT INTO silverback_invalidations (entity, op, keys) VALUES (TG_TABLE_NAME, TG_OP, names);
    IF TG_OP <> 'INSERT' OR pg_try_advisory_xact_lock(hashtext('silverback notify'), 0) THEN
        PERFORM pg_notify('silverback_invalidations', '');
    ELSE
        PERFORM pg_advisory_xact_lock_shared(hashtext('silverback notify'), 1);
    END IF;
    IF random() < 0.001 THEN
        PERFORM silverback_prune();
    END IF;
    RETURN NULL;
END
$$;

-- What a follower at version `since`, made with mark known_mark, must read again. The first row is
-- for all: the version that it reaches with that, and whether it must load everything instead (the
-- log does not reach back to it, or it comes from another past). Then a row for each table in which
-- something changed: all of it (every), or the rows with these ids, which may be gone by now. To be
-- at one version, read them in the same REPEATABLE READ transaction.
CREATE OR REPLACE FUNCTION silverback_changes_since(since bigint, known_mark bigint)
RETURNS TABLE (version bigint, mark bigint, whole boolean, entity text, every boolean, ids uuid[])
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    SELECT v.version, v.mark, NOT EXISTS (SELECT FROM silverback_changes c
                                          WHERE c.version = since AND c.mark = known_mark)
        INTO STRICT version, mark, whole FROM silverback_version v;
    RETURN NEXT;
    IF NOT whole THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint, NULL::boolean, c.entity, bool_or(c.ids IS NULL),
                            array_agg(DISTINCT i.id) FILTER (WHERE i.id IS NOT NULL)
                     FROM silverback_changes c LEFT JOIN LATERAL unnest(c.ids) i(id) ON true
                     WHERE c.version > since GROUP BY c.entity;
    END IF;
END
$$;

-- Which cached look-ups end, for a reader that has seen everything up to `seen`, which is what this
-- gave it as upto (NULL: nothing). The first row is for all: upto; whether it must forget everything
-- it has cached (restart); and whether transactions are under way that add rows and left the
-- announcement to another (unsettled: look again soon). A row may be given twice, which is harmless;
-- on a standby, which is vague about running transactions, more often. NULL keys: all of the table;
-- op INSERT ends only the knowledge that there was no such row.
--
-- upto is the history's name (a failover starts a new one) and a snapshot: TIMELINE/XMIN:XMAX:RUNNING.
-- Volatile, so that each statement sees what is committed by then: whoever is not among the unsettled
-- has finished, and the next statement sees it; what the snapshot leaves out comes again.
CREATE OR REPLACE FUNCTION silverback_invalidations_since(seen text)
RETURNS TABLE (upto text, restart boolean, unsettled boolean, entity text, op text, keys text[])
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
    present txid_snapshot;
    history text := 'standby';
    past    txid_snapshot;
BEGIN
    unsettled := EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                         WHERE l.locktype = 'advisory' AND d.datname = current_database()
                           AND l.classid::bigint = hashtext('silverback notify')::bigint & 4294967295
                           AND l.objid = 1);
    present := txid_current_snapshot();
    IF pg_is_in_recovery() THEN
        present := format('%1$s:%1$s:', txid_snapshot_xmin(present));
    ELSE
        history := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    END IF;
    upto := history || '/' || present;
    past := split_part(seen, '/', 2);
    restart := seen IS NULL OR split_part(seen, '/', 1) <> history
               OR txid_snapshot_xmax(past) > txid_snapshot_xmax(present)
               OR txid_snapshot_xmin(past) <= (SELECT txid FROM silverback_pruned);
    RETURN NEXT;
    IF NOT restart THEN
        RETURN QUERY SELECT NULL::text, NULL::boolean, NULL::boolean, i.entity, i.op, i.keys
                     FROM silverback_invalidations i
                     WHERE i.txid >= txid_snapshot_xmin(past)
                       AND NOT txid_visible_in_snapshot(i.txid, past);
    END IF;
END
$$;

-- The first statement of a control plane's transaction: refuses everyone but the present leader, and
-- keeps the next one from taking over until this transaction has ended.
CREATE OR REPLACE FUNCTION silverback_fence(mine bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    l silverback_leader;
BEGIN
    SELECT * INTO l FROM silverback_leader FOR SHARE;
    IF l.epoch <> mine THEN
        RAISE EXCEPTION 'not the leader: epoch % is over, % leads with epoch %',
                        mine, l.holder, l.epoch USING ERRCODE = 'SB001';
    END IF;
END
$$;

-- Which table has which triggers. A trigger with transition tables is for one event.
CREATE OR REPLACE FUNCTION pg_temp.watch(tbl text, fn text, events text, args text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    event text;
    rows  text;
BEGIN
    FOREACH event IN ARRAY string_to_array(events, ' ') LOOP
        rows := CASE event
                WHEN 'insert' THEN 'REFERENCING NEW TABLE AS new_rows'
                WHEN 'update' THEN 'REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows'
                WHEN 'delete' THEN 'REFERENCING OLD TABLE AS old_rows'
                ELSE '' END;
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I', 'silverback_' || event, tbl);
        EXECUTE format('CREATE TRIGGER %I AFTER %s ON %I %s FOR EACH STATEMENT '
                       'EXECUTE PROCEDURE %I(%s)', 'silverback_' || event, event, tbl, rows, fn, args);
    END LOOP;
END
$$;

DO $$
DECLARE
    tbl text;
    w   record;
BEGIN
    FOREACH tbl IN ARRAY ARRAY['workspaces', 'certificates', 'services', 'routes', 'snis', 'upstreams',
                               'targets', 'plugins', 'ca_certificates', 'sm_vaults', 'key_sets',
                               'keys', 'filter_chains'] LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS silverback_queue ON %I', tbl);
        EXECUTE format('CREATE TRIGGER silverback_queue BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE '
                       'ON %I FOR EACH STATEMENT EXECUTE PROCEDURE silverback_queue()', tbl);
        PERFORM pg_temp.watch(tbl, 'silverback_record', 'insert update delete truncate', '');
    END LOOP;

    -- Tokens and sessions come all the time and are news to nobody; their end is.
    FOR w IN SELECT * FROM (VALUES
        ('consumers', 'insert update delete truncate', 'id, username, custom_id'),
        ('acls', 'insert update delete truncate', 'consumer_id'),
        ('keyauth_credentials', 'insert update delete truncate', 'id, key'),
        ('basicauth_credentials', 'insert update delete truncate', 'id, username'),
        ('hmacauth_credentials', 'insert update delete truncate', 'id, username'),
        ('jwt_secrets', 'insert update delete truncate', 'id, key'),
        ('oauth2_credentials', 'insert update delete truncate', 'id, client_id'),
        ('oauth2_tokens', 'update delete truncate', 'id, access_token, refresh_token'),
        ('sessions', 'delete truncate', 'session_id')
    ) AS t (tbl, events, columns) LOOP
        PERFORM pg_temp.watch(w.tbl, 'silverback_invalidate', w.events, w.columns);
    END LOOP;
END
$$;
DROP FUNCTION pg_temp.watch(text, text, text, text);
