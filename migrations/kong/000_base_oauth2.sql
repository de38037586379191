-- oauth2: its tables, as Kong 3.9.1 leaves them (see 000_base.sql).

CREATE TABLE oauth2_credentials (
    id            uuid PRIMARY KEY,
    created_at    timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    name          text,
    consumer_id   uuid,
    client_id     text,
    client_secret text,
    redirect_uris text[],
    tags          text[],
    client_type   text,
    hash_secret   boolean,
    ws_id         uuid,
    CONSTRAINT oauth2_credentials_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT oauth2_credentials_ws_id_client_id_unique UNIQUE (ws_id, client_id),
    CONSTRAINT oauth2_credentials_consumer_id_fkey FOREIGN KEY (consumer_id, ws_id)
        REFERENCES consumers (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT oauth2_credentials_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX oauth2_credentials_consumer_id_idx ON oauth2_credentials (consumer_id);
CREATE INDEX oauth2_credentials_secret_idx ON oauth2_credentials (client_secret);
CREATE INDEX oauth2_credentials_tags_idex_tags_idx ON oauth2_credentials USING gin (tags);
CREATE TRIGGER oauth2_credentials_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE
    ON oauth2_credentials
    FOR EACH ROW EXECUTE PROCEDURE sync_tags();

CREATE TABLE oauth2_authorization_codes (
    id                   uuid PRIMARY KEY,
    created_at           timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    credential_id        uuid,
    service_id           uuid,
    code                 text,
    authenticated_userid text,
    scope                text,
    ttl                  timestamptz,
    challenge            text,
    challenge_method     text,
    ws_id                uuid,
    plugin_id            uuid,
    CONSTRAINT oauth2_authorization_codes_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT oauth2_authorization_codes_ws_id_code_unique UNIQUE (ws_id, code),
    CONSTRAINT oauth2_authorization_codes_credential_id_fkey FOREIGN KEY (credential_id, ws_id)
        REFERENCES oauth2_credentials (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT oauth2_authorization_codes_plugin_id_fkey FOREIGN KEY (plugin_id)
        REFERENCES plugins (id) ON DELETE CASCADE,
    CONSTRAINT oauth2_authorization_codes_service_id_fkey FOREIGN KEY (service_id, ws_id)
        REFERENCES services (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT oauth2_authorization_codes_ws_id_fkey FOREIGN KEY (ws_id)
        REFERENCES workspaces (id)
);
CREATE INDEX oauth2_authorization_codes_authenticated_userid_idx
    ON oauth2_authorization_codes (authenticated_userid);
CREATE INDEX oauth2_authorization_codes_ttl_idx ON oauth2_authorization_codes (ttl);
CREATE INDEX oauth2_authorization_credential_id_idx ON oauth2_authorization_codes (credential_id);
CREATE INDEX oauth2_authorization_service_id_idx ON oauth2_authorization_codes (service_id);
CREATE TRIGGER oauth2_authorization_codes_ttl_trigger AFTER INSERT ON oauth2_authorization_codes
    FOR EACH STATEMENT EXECUTE PROCEDURE batch_delete_expired_rows('ttl');

CREATE TABLE oauth2_tokens (
    id                   uuid PRIMARY KEY,
    created_at           timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
    credential_id        uuid,
    service_id           uuid,
    access_token         text,
    refresh_token        text,
    token_type           text,
    expires_in           integer,
    authenticated_userid text,
    scope                text,
    ttl                  timestamptz,
    ws_id                uuid,
    CONSTRAINT oauth2_tokens_id_ws_id_unique UNIQUE (id, ws_id),
    CONSTRAINT oauth2_tokens_ws_id_access_token_unique UNIQUE (ws_id, access_token),
    CONSTRAINT oauth2_tokens_ws_id_refresh_token_unique UNIQUE (ws_id, refresh_token),
    CONSTRAINT oauth2_tokens_credential_id_fkey FOREIGN KEY (credential_id, ws_id)
        REFERENCES oauth2_credentials (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT oauth2_tokens_service_id_fkey FOREIGN KEY (service_id, ws_id)
        REFERENCES services (id, ws_id) ON DELETE CASCADE,
    CONSTRAINT oauth2_tokens_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces (id)
);
CREATE INDEX oauth2_tokens_authenticated_userid_idx ON oauth2_tokens (authenticated_userid);
CREATE INDEX oauth2_tokens_credential_id_idx ON oauth2_tokens (credential_id);
CREATE INDEX oauth2_tokens_service_id_idx ON oauth2_tokens (service_id);
CREATE INDEX oauth2_tokens_ttl_idx ON oauth2_tokens (ttl);
CREATE TRIGGER oauth2_tokens_ttl_trigger AFTER INSERT ON oauth2_tokens
    FOR EACH STATEMENT EXECUTE PROCEDURE batch_delete_expired_rows('ttl');
