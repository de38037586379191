-- core: Kong 3.9.1's own tables, as its 23 migrations leave them.
--
-- Names of constraints and indexes are part of the interface: the gateway recognises violations by
-- them. Nearly everything is nullable: validation happens above the database. Timestamps have
-- zones, defaults have none, so every session must be in UTC.

-- Keeps `tags` in step with the tags of the table it is attached to.
CREATE FUNCTION sync_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM tags WHERE entity_name = TG_TABLE_NAME;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        DELETE FROM tags WHERE entity_id = OLD.id;
        RETURN OLD;
    END IF;
    INSERT INTO tags AS t (entity_id, entity_name, tags) VALUES (NEW.id, TG_TABLE_NAME, NEW.tags)
        ON CONFLICT (entity_id) DO UPDATE SET tags = EXCLUDED.tags;
    RETURN NEW;
END
$$;

-- Takes at most two expired rows along with each INSERT, so that a table with a steady inflow stays
-- small. The argument names the column that says when a row ends.
CREATE FUNCTION batch_delete_expired_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'DELETE FROM %1$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I
            WHERE %2$I < CURRENT_TIMESTAMP AT TIME ZONE ''UTC''
            ORDER BY %2$I LIMIT 2 FOR UPDATE SKIP LOCKED))', TG_TABLE_NAME, TG_ARGV[0]);
    RETURN NULL;
END
$$;

CREATE TABLE parameters (
    key        text PRIMARY KEY,
    value      text NOT NULL,
    created_at timestamptz
);

CREATE TABLE workspaces (
    id         uuid PRIMARY KEY,
    name       text,
    comment    text,
    created_at timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    meta       jsonb,
    config     jsonb,
    updated_at timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    CONSTRAINT workspaces_name_key UNIQUE (name)
);

CREATE TABLE tags (
    entity_id   uuid PRIMARY KEY,
    entity_name text,
    tags        text[]
);
CREATE INDEX tags_entity_name_idx ON tags (entity_name);
CREATE INDEX tags_tags_idx ON tags USING gin (tags);

CREATE TABLE cluster_events (
    id        uuid PRIMARY KEY,
    node_id   uuid NOT NULL,
    at        timestamptz NOT NULL,
    nbf       timestamptz,
    expire_at timestamptz NOT NULL,
    channel   text,
    data      text
);
CREATE INDEX cluster_events_at_idx ON cluster_events (at);
CREATE INDEX cluster_events_channel_idx ON cluster_events (channel);
CREATE INDEX cluster_events_expire_at_idx ON cluster_events (expire_at);
CREATE TRIGGER cluster_events_ttl_trigger AFTER INSERT ON cluster_events
    FOR EACH STATEMENT EXECUTE PROCEDURE batch_delete_expired_rows('expire_at');

CREATE TABLE consumers (
    id         uuid PRIMARY KEY,
    created_at timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    username   text,
    custom_id  text,
    tags       text[],
    ws_id      uuid,
    updated_at timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    CONSTRAINT consumers_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT consumers_ws_id_custom_id_unique UNIQUE (ws_id, custom_id),
    CONSTRAINT consumers_ws_id_username_unique UNIQUE (ws_id, username),
    CONSTRAINT consumers_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX consumers_tags_idx ON consumers USING gin (tags);
CREATE INDEX consumers_username_idx ON consumers (lower(username));
CREATE TRIGGER consumers_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON consumers
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE certificates (
    id         uuid PRIMARY KEY,
    created_at timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    cert       text,
    key        text,
    tags       text[],
    ws_id      uuid,
    cert_alt   text,
    key_alt    text,
    updated_at timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    CONSTRAINT certificates_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT certificates_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX certificates_tags_idx ON certificates USING gin (tags);
CREATE TRIGGER certificates_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE
    ON certificates
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE services (
    id                    uuid PRIMARY KEY,
    created_at            timestamptz,
    updated_at            timestamptz,
    name                  text,
    retries               bigint,
    protocol              text,
    host                  text,
    port                  bigint,
    path                  text,
    connect_timeout       bigint,
    write_timeout         bigint,
    read_timeout          bigint,
    tags                  text[],
    client_certificate_id uuid,
    tls_verify            boolean,
    tls_verify_depth      smallint,
    ca_certificates       uuid[],
    ws_id                 uuid,
    enabled               boolean DEFAULT true,
    CONSTRAINT services_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT services_ws_id_name_unique UNIQUE (ws_id, name),
    CONSTRAINT services_client_certificate_id_fkey FOREIGN KEY (client_certificate_id, ws_id)
        REFERENCES certificates (id, ws_id),
    CONSTRAINT services_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX services_fkey_client_certificate ON services (client_certificate_id);
CREATE INDEX services_tags_idx ON services USING gin (tags);
CREATE TRIGGER services_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON services
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE routes (
    id                         uuid PRIMARY KEY,
    created_at                 timestamptz,
    updated_at                 timestamptz,
    name                       text,
    service_id                 uuid,
    protocols                  text[],
    methods                    text[],
    hosts                      text[],
    paths                      text[],
    snis                       text[],
    sources                    jsonb[],
    destinations               jsonb[],
    regex_priority             bigint,
    strip_path                 boolean,
    preserve_host              boolean,
    tags                       text[],
    https_redirect_status_code integer,
    headers                    jsonb,
    path_handling              text DEFAULT 'v0',
    ws_id                      uuid,
    request_buffering          boolean,
    response_buffering         boolean,
    expression                 text,
    priority                   bigint,
    CONSTRAINT routes_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT routes_ws_id_name_unique UNIQUE (ws_id, name),
    CONSTRAINT routes_service_id_fkey FOREIGN KEY (service_id, ws_id)
        REFERENCES services (id, ws_id),
    CONSTRAINT routes_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX routes_service_id_idx ON routes (service_id);
CREATE INDEX routes_tags_idx ON routes USING gin (tags);
CREATE TRIGGER routes_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON routes
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE snis (
    id             uuid PRIMARY KEY,
    created_at     timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    name           text NOT NULL,
    certificate_id uuid,
    tags           text[],
    ws_id          uuid,
    updated_at     timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    CONSTRAINT snis_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT snis_name_key UNIQUE (name),
    CONSTRAINT snis_certificate_id_fkey FOREIGN KEY (certificate_id, ws_id)
        REFERENCES certificates (id, ws_id),
    CONSTRAINT snis_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX snis_certificate_id_idx ON snis (certificate_id);
CREATE INDEX snis_tags_idx ON snis USING gin (tags);
CREATE TRIGGER snis_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON snis
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE upstreams (
    id                        uuid PRIMARY KEY,
    created_at                timestamptz DEFAULT (CURRENT_TIMESTAMP(3) AT TIME ZONE 'UTC'),
    name                      text,
    hash_on                   text,
    hash_fallback             text,
    hash_on_header            text,
    hash_fallback_header      text,
    hash_on_cookie            text,
    hash_on_cookie_path       text,
    slots                     integer NOT NULL,
    healthchecks              jsonb,
    tags                      text[],
    algorithm                 text,
    host_header               text,
    client_certificate_id     uuid,
    ws_id                     uuid,
    hash_on_query_arg         text,
    hash_fallback_query_arg   text,
    hash_on_uri_capture       text,
    hash_fallback_uri_capture text,
    use_srv_name              boolean DEFAULT false,
    updated_at                timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    CONSTRAINT upstreams_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT upstreams_ws_id_name_unique UNIQUE (ws_id, name),
    CONSTRAINT upstreams_client_certificate_id_fkey FOREIGN KEY (client_certificate_id)
        REFERENCES certificates (id),
    CONSTRAINT upstreams_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX upstreams_fkey_client_certificate ON upstreams (client_certificate_id);
CREATE INDEX upstreams_tags_idx ON upstreams USING gin (tags);
CREATE TRIGGER upstreams_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON upstreams
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE targets (
    id          uuid PRIMARY KEY,
    created_at  timestamptz DEFAULT (CURRENT_TIMESTAMP(3) AT TIME ZONE 'UTC'),
    upstream_id uuid,
    target      text NOT NULL,
    weight      integer NOT NULL,
    tags        text[],
    ws_id       uuid,
    cache_key   text,
    updated_at  timestamptz DEFAULT (CURRENT_TIMESTAMP(3) AT TIME ZONE 'UTC'),
    CONSTRAINT targets_cache_key_key UNIQUE (cache_key),
    CONSTRAINT targets_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT targets_upstream_id_fkey FOREIGN KEY (upstream_id, ws_id)
        REFERENCES upstreams (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT targets_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX targets_tags_idx ON targets USING gin (tags);
CREATE INDEX targets_target_idx ON targets (target);
CREATE INDEX targets_upstream_id_idx ON targets (upstream_id);
CREATE TRIGGER targets_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON targets
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE plugins (
    id            uuid PRIMARY KEY,
    created_at    timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    name          text NOT NULL,
    consumer_id   uuid,
    service_id    uuid,
    route_id      uuid,
    config        jsonb NOT NULL,
    enabled       boolean NOT NULL,
    cache_key     text,
    run_on        text,
    protocols     text[],
    tags          text[],
    ws_id         uuid,
    instance_name text,
    updated_at    timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    CONSTRAINT plugins_cache_key_key UNIQUE (cache_key),
    CONSTRAINT plugins_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT plugins_ws_id_instance_name_unique UNIQUE (ws_id, instance_name),
    CONSTRAINT plugins_consumer_id_fkey FOREIGN KEY (consumer_id, ws_id)
        REFERENCES consumers (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT plugins_route_id_fkey FOREIGN KEY (route_id, ws_id)
        REFERENCES routes (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT plugins_service_id_fkey FOREIGN KEY (service_id, ws_id)
        REFERENCES services (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT plugins_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
-- Kong dropped this column long ago: with it the numbers of the others are as there.
ALTER TABLE plugins DROP COLUMN run_on;
CREATE INDEX plugins_consumer_id_idx ON plugins (consumer_id);
CREATE INDEX plugins_name_idx ON plugins (name);
CREATE INDEX plugins_route_id_idx ON plugins (route_id);
CREATE INDEX plugins_service_id_idx ON plugins (service_id);
CREATE INDEX plugins_tags_idx ON plugins USING gin (tags);
CREATE TRIGGER plugins_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON plugins
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE ca_certificates (
    id          uuid PRIMARY KEY,
    created_at  timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    cert        text NOT NULL,
    tags        text[],
    cert_digest text NOT NULL,
    updated_at  timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    CONSTRAINT ca_certificates_cert_digest_key UNIQUE (cert_digest)
);
CREATE TRIGGER ca_certificates_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE
    ON ca_certificates
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE sm_vaults (
    id          uuid PRIMARY KEY,
    ws_id       uuid,
    prefix      text,
    name        text NOT NULL,
    description text,
    config      jsonb NOT NULL,
    created_at  timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    updated_at  timestamptz,
    tags        text[],
    CONSTRAINT sm_vaults_id_ws_id_key UNIQUE (id, ws_id),
    CONSTRAINT sm_vaults_prefix_key UNIQUE (prefix),
    CONSTRAINT sm_vaults_prefix_ws_id_key UNIQUE (prefix, ws_id),
    CONSTRAINT sm_vaults_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX sm_vaults_tags_idx ON sm_vaults USING gin (tags);
CREATE TRIGGER sm_vaults_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON sm_vaults
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE key_sets (
    id         uuid PRIMARY KEY,
    name       text,
    tags       text[],
    ws_id      uuid,
    created_at timestamptz,
    updated_at timestamptz,
    CONSTRAINT key_sets_name_key UNIQUE (name),
    CONSTRAINT key_sets_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX key_sets_tags_idx ON key_sets USING gin (tags);
CREATE TRIGGER key_sets_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON key_sets
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE keys (
    id         uuid PRIMARY KEY,
    set_id     uuid,
    name       text,
    cache_key  text,
    ws_id      uuid,
    kid        text,
    jwk        text,
    pem        jsonb,
    tags       text[],
    created_at timestamptz,
    updated_at timestamptz,
    CONSTRAINT keys_cache_key_key UNIQUE (cache_key),
    CONSTRAINT keys_kid_set_id_key UNIQUE (kid, set_id),
    CONSTRAINT keys_name_key UNIQUE (name),
    CONSTRAINT keys_set_id_fkey FOREIGN KEY (set_id) REFERENCES key_sets (id) ON DELETE CASCADE,
    CONSTRAINT keys_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX keys_fkey_key_sets ON keys (set_id);
CREATE INDEX keys_tags_idx ON keys USING gin (tags);
CREATE TRIGGER keys_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON keys
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE filter_chains (
    id         uuid PRIMARY KEY,
    name       text,
    enabled    boolean DEFAULT true,
    route_id   uuid,
    service_id uuid,
    ws_id      uuid,
    cache_key  text,
    filters    jsonb[],
    tags       text[],
    created_at timestamptz,
    updated_at timestamptz,
    CONSTRAINT filter_chains_cache_key_key UNIQUE (cache_key),
    CONSTRAINT filter_chains_name_key UNIQUE (name),
    CONSTRAINT filter_chains_route_id_fkey FOREIGN KEY (route_id)
        REFERENCES routes (id) ON DELETE CASCADE,
    CONSTRAINT filter_chains_service_id_fkey FOREIGN KEY (service_id)
        REFERENCES services (id) ON DELETE CASCADE,
    CONSTRAINT filter_chains_ws_id_fkey FOREIGN KEY (ws_id)
        REFERENCES workspaces (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX filter_chains_cache_key_idx ON filter_chains (cache_key);
CREATE UNIQUE INDEX filter_chains_name_idx ON filter_chains (name);
CREATE INDEX filter_chains_tags_idx ON filter_chains USING gin (tags);
CREATE TRIGGER filter_chains_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE
    ON filter_chains
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE clustering_data_planes (
    id               uuid PRIMARY KEY,
    hostname         text NOT NULL,
    ip               text NOT NULL,
    last_seen        timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    config_hash      text NOT NULL,
    ttl              timestamptz,
    version          text,
    sync_status      text NOT NULL DEFAULT 'unknown',
    updated_at       timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    labels           jsonb,
    cert_details     jsonb,
    rpc_capabilities text[]
);
CREATE INDEX clustering_data_planes_ttl_idx ON clustering_data_planes (ttl);
CREATE TRIGGER clustering_data_planes_ttl_trigger AFTER INSERT ON clustering_data_planes
    FOR EACH STATEMENT EXECUTE PROCEDURE batch_delete_expired_rows('ttl');

CREATE TABLE clustering_rpc_requests (
    id       bigserial PRIMARY KEY,
    node_id  uuid NOT NULL,
    reply_to uuid NOT NULL,
    ttl      timestamptz NOT NULL,
    payload  json NOT NULL
);
CREATE INDEX clustering_rpc_requests_node_id_idx ON clustering_rpc_requests (node_id);

CREATE TABLE clustering_sync_version (
    version serial PRIMARY KEY
);

CREATE TABLE clustering_sync_delta (
    version integer NOT NULL,
    type    text NOT NULL,
    pk      json NOT NULL,
    ws_id   uuid NOT NULL,
    entity  json,
    CONSTRAINT clustering_sync_delta_version_fkey FOREIGN KEY (version)
        REFERENCES clustering_sync_version (version) ON DELETE CASCADE
);
CREATE INDEX clustering_sync_delta_version_idx ON clustering_sync_delta (version);

INSERT INTO workspaces (id, name)
    VALUES (overlay(overlay(md5(random()::text || clock_timestamp()) PLACING '4' FROM 13)
                    PLACING '8' FROM 17)::uuid, 'default');
INSERT INTO parameters (key, value)
    VALUES ('cluster_id',
            overlay(overlay(md5(clock_timestamp() || random()::text) PLACING '4' FROM 13)
                    PLACING '9' FROM 17)::uuid::text);
