-- key-auth: its tables, as Kong 3.9.1 leaves them (see 000_base.sql).

CREATE TABLE keyauth_credentials (
    id          uuid PRIMARY KEY,
    created_at  timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    consumer_id uuid,
    key         text,
    tags        text[],
    ttl         timestamptz,
    ws_id       uuid,
    CONSTRAINT keyauth_credentials_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT keyauth_credentials_ws_id_key_unique UNIQUE (ws_id, key),
    CONSTRAINT keyauth_credentials_consumer_id_fkey FOREIGN KEY (consumer_id, ws_id)
        REFERENCES consumers (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT keyauth_credentials_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX keyauth_credentials_consumer_id_idx ON keyauth_credentials (consumer_id);
CREATE INDEX keyauth_credentials_ttl_idx ON keyauth_credentials (ttl);
CREATE INDEX keyauth_tags_idex_tags_idx ON keyauth_credentials USING gin (tags);
CREATE TRIGGER keyauth_credentials_ttl_trigger AFTER INSERT ON keyauth_credentials
    FOR EACH STATEMENT EXECUTE PROCEDURE batch_delete_expired_rows('ttl');
CREATE TRIGGER keyauth_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE
    ON keyauth_credentials
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();
