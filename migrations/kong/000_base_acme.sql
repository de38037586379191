-- acme: its tables, as Kong 3.9.1 leaves them (see 000_base.sql).

CREATE TABLE acme_storage (
    id         uuid PRIMARY KEY,
    key        text,
    value      text,
    created_at timestamptz,
    ttl        timestamptz,
    CONSTRAINT acme_storage_key_key UNIQUE (key)
);
CREATE INDEX acme_storage_ttl_idx ON acme_storage (ttl);
CREATE TRIGGER acme_storage_ttl_trigger AFTER INSERT ON acme_storage
    FOR EACH STATEMENT EXECUTE PROCEDURE batch_delete_expired_rows('ttl');
