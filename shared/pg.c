/* pg.c - sessions on libpq that wait with a deadline.
 *
 * libpq's blocking calls wait as long as the network lets them; a gateway must not. So everything
 * is sent and read without blocking, and the waiting is one poll() against one deadline:
 *
 *     connect_host()  start -> poll until connected -> settle()   per host, until one is fit
 *     run()           send  -> poll until answered  -> last result or first error
 *
 * The server gets the same limit as statement_timeout, so that a slow statement ends there and the
 * session stays usable. Only when the server does not even say so (paused, cut off) the client's
 * deadline strikes, GRACE_MS later, and the session is broken for good.
 *
 * Poolers. In PgBouncer's transaction mode two transactions of one client run in different server
 * sessions, so a SET leaks to strangers and a prepared statement may be gone. It is recognised by
 * the backend's pid: the one announced at connect is the pooler's invention. In such a session the
 * settings travel with each transaction (prelude), local to it. The time zone may be set as usual:
 * PgBouncer follows that parameter and carries it along.
 */
#include "shared/pg.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/log.h"
#include "shared/map.h"

enum { GRACE_MS = 500, PREPARED_MAX = 500, CA_LEN_MAX = 4 << 20 };

struct sb_pg {
    PGconn *conn;
    PGresult *error;          /* of the last failed statement, or NULL */
    struct sb_arena *scratch; /* parameters of the statement under way */
    struct sb_arena *names;   /* keys and values of prepared */
    struct sb_map prepared;   /* SQL text -> char * name */
    char *prelude;            /* pooled: goes before each transaction; "" when nothing is to set */
    unsigned nprepared;
    int timeout_ms;
    bool prepare, pooled, broken;
};

/* -- waiting ----------------------------------------------------------------------------------- */

static int64_t deadline_in(int timeout_ms)
{
    return timeout_ms > 0 ? sb_clock_ms() + timeout_ms : INT64_MAX;
}

/* Polls until one of the events or the deadline: SB_OK or SB_TIMEOUT. */
static enum sb_rc wait_for(int fd, short events, int64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int64_t left = deadline == INT64_MAX ? -1 : deadline - sb_clock_ms();
        int n;

        if (deadline != INT64_MAX && left <= 0)
            return SB_TIMEOUT;
        n = poll(&p, 1, left > 1000 * 3600 ? 1000 * 3600 : (int)left);
        if (n > 0 || (n < 0 && errno != EINTR))
            return SB_OK; /* libpq finds out what is wrong with the socket */
    }
}

/* A message of libpq on one line, without the place in the server that follows `LOCATION:`. */
static void one_line(const char *text, char *out, size_t cap)
{
    size_t n = 0;
    const char *end = strstr(text, "\nLOCATION:");

    for (; *text && text != end && n + 1 < cap; text++) {
        bool space = isspace((unsigned char)*text);

        if (!space || (n && out[n - 1] != ' '))
            out[n++] = space ? ' ' : *text;
    }
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = 0;
}

/* -- results and errors ------------------------------------------------------------------------ */

enum sb_rc sb_pg_sqlstate_rc(const char *state)
{
    /* The first row whose prefix fits. */
    static const struct {
        const char *prefix;
        enum sb_rc rc;
    } table[] = {
        {"23505", SB_CONFLICT},  {"23503", SB_CONFLICT},    {"23P01", SB_CONFLICT},
        {"57014", SB_TIMEOUT},   {"55P03", SB_TIMEOUT},     {"42501", SB_DENIED},
        {"25006", SB_DENIED},    {"28", SB_DENIED},         {"3D000", SB_NOTFOUND},
        {"40", SB_AGAIN},        {"08", SB_UNAVAILABLE},    {"53", SB_UNAVAILABLE},
        {"57P", SB_UNAVAILABLE}, {"25P03", SB_UNAVAILABLE}, {"", SB_INVALID},
    };
    size_t i = 0;

    while (strncmp(state, table[i].prefix, strlen(table[i].prefix)) != 0)
        i++;
    return table[i].rc;
}

static void keep_error(struct sb_pg *pg, PGresult *result)
{
    PQclear(pg->error);
    pg->error = result;
}

static const char *error_field(const struct sb_pg *pg, int field)
{
    const char *text = pg->error ? PQresultErrorField(pg->error, field) : NULL;

    return text ? text : "";
}

const char *sb_pg_sqlstate(const struct sb_pg *pg)
{
    return error_field(pg, PG_DIAG_SQLSTATE);
}

const char *sb_pg_constraint(const struct sb_pg *pg)
{
    return error_field(pg, PG_DIAG_CONSTRAINT_NAME);
}

const char *sb_pg_message(const struct sb_pg *pg)
{
    return error_field(pg, PG_DIAG_MESSAGE_PRIMARY);
}

const char *sb_pg_detail(const struct sb_pg *pg)
{
    return error_field(pg, PG_DIAG_MESSAGE_DETAIL);
}

static enum sb_rc lost(struct sb_pg *pg, struct sb_err *err)
{
    char line[512];

    pg->broken = true;
    one_line(PQerrorMessage(pg->conn), line, sizeof line);
    return sb_err_set(err, SB_UNAVAILABLE, "connection to PostgreSQL lost: %s",
                      line[0] ? line : "closed");
}

/* Takes the failed result. */
static enum sb_rc failed(struct sb_pg *pg, PGresult *result, struct sb_err *err)
{
    enum sb_rc rc;

    keep_error(pg, result);
    if (PQstatus(pg->conn) != CONNECTION_OK)
        pg->broken = true;
    if (!sb_pg_sqlstate(pg)[0])
        return lost(pg, err);
    rc = sb_pg_sqlstate_rc(sb_pg_sqlstate(pg));
    if (rc == SB_TIMEOUT)
        return sb_err_set(err, rc, "timeout: %s", sb_pg_message(pg));
    if (!strcmp(sb_pg_sqlstate(pg), "42P01")) /* undefined table */
        return sb_err_set(err, rc, "%s (run silverback-migrations bootstrap, or correct pg_schema)",
                          sb_pg_message(pg));
    return sb_err_set(err, rc, "%s", sb_pg_message(pg));
}

/* Sends what libpq still holds while taking what comes, so that neither side waits for the other.
 */
static enum sb_rc flush(struct sb_pg *pg, int64_t deadline)
{
    int left;

    while ((left = PQflush(pg->conn)) > 0) {
        if (wait_for(PQsocket(pg->conn), POLLIN | POLLOUT, deadline))
            return SB_TIMEOUT;
        if (!PQconsumeInput(pg->conn))
            return SB_UNAVAILABLE;
    }
    return left ? SB_UNAVAILABLE : SB_OK;
}

static enum sb_rc await_result(struct sb_pg *pg, int64_t deadline)
{
    enum sb_rc rc = flush(pg, deadline);

    while (!rc && PQisBusy(pg->conn)) {
        rc = wait_for(PQsocket(pg->conn), POLLIN, deadline);
        if (!rc && !PQconsumeInput(pg->conn))
            rc = SB_UNAVAILABLE;
    }
    return rc;
}

static bool is_failure(const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
        return false;
    default:
        return true;
    }
}

/* After a successful send: waits for all results; *out is the last one. */
static enum sb_rc run(struct sb_pg *pg, PGresult **out, struct sb_err *err)
{
    int64_t deadline = deadline_in(pg->timeout_ms > 0 ? pg->timeout_ms + GRACE_MS : 0);
    PGresult *last = NULL, *r;
    enum sb_rc rc;

    for (;;) {
        rc = await_result(pg, deadline);
        if (rc)
            break;
        r = PQgetResult(pg->conn);
        if (!r)
            break;
        if (last && is_failure(last)) {
            PQclear(r);
            continue;
        }
        PQclear(last);
        last = r;
        if (PQresultStatus(r) == PGRES_COPY_IN || PQresultStatus(r) == PGRES_COPY_OUT) {
            pg->broken = true; /* nobody here speaks COPY */
            break;
        }
    }
    if (rc || !last) {
        PQclear(last);
        if (rc != SB_TIMEOUT)
            return lost(pg, err);
        pg->broken = true;
        return sb_err_set(err, SB_TIMEOUT, "timeout: PostgreSQL did not answer within %d ms",
                          pg->timeout_ms);
    }
    if (is_failure(last))
        return failed(pg, last, err);
    *out = last;
    return SB_OK;
}

static enum sb_rc start(struct sb_pg *pg, struct sb_err *err)
{
    keep_error(pg, NULL);
    if (pg->broken)
        return sb_err_set(err, SB_UNAVAILABLE, "connection to PostgreSQL lost");
    return SB_OK;
}

/* -- connecting -------------------------------------------------------------------------------- */

/* A place that serves: where, and what was tried there. */
struct attempt {
    const struct sb_pg_config *config;
    char host[512], port[12];
    const char *ca; /* a path libpq can read, or NULL */
    bool several;
};

static const char *or_default(const char *value, const char *def)
{
    return value && *value ? value : def;
}

static const char *sslmode(const struct sb_pg_config *c)
{
    if (!c->ssl)
        return "disable";
    if (c->ssl_verify)
        return "verify-full";
    return c->ssl_required ? "require" : "prefer";
}

static PGconn *start_connection(const struct attempt *at)
{
    const struct sb_pg_config *c = at->config;
    const char *name = or_default(c->application, "silverback");
    const char *tls =
        c->ssl_version && strcmp(c->ssl_version, "tlsv1_3") == 0 ? "TLSv1.3" : "TLSv1.2";
    /* A host that never answers must be noticed by a session that only listens, too. */
    const char *const keys[] = {"host",
                                "port",
                                "user",
                                "password",
                                "dbname",
                                "application_name",
                                "sslmode",
                                "ssl_min_protocol_version",
                                "sslcert",
                                "sslkey",
                                "sslrootcert",
                                "client_encoding",
                                "gssencmode",
                                "keepalives_idle",
                                "keepalives_interval",
                                "keepalives_count",
                                NULL};
    const char *const values[] = {at->host,
                                  at->port,
                                  or_default(c->user, "kong"),
                                  c->password,
                                  or_default(c->database, "kong"),
                                  name,
                                  sslmode(c),
                                  tls,
                                  c->ssl_cert,
                                  c->ssl_key,
                                  at->ca,
                                  "UTF8",
                                  "disable",
                                  "15",
                                  "5",
                                  "3",
                                  NULL};

    return PQconnectStartParams(keys, values, 0);
}

/* With the verbose form the SQLSTATE stands between severity and text: "FATAL:  28P01: ...". */
static void sqlstate_in(const char *text, char out[6])
{
    const char *p = strstr(text, ":  ");

    out[0] = 0;
    for (; p && !out[0]; p = strstr(p + 1, ":  "))
        if (strlen(p) > 8 && strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 &&
            p[8] == ':')
            snprintf(out, 6, "%.5s", p + 3);
}

static const char *advice(const char *state, const char *text)
{
    if (strncmp(state, "28", 2) == 0)
        return "check pg_user and pg_password";
    if (strcmp(state, "3D000") == 0)
        return "create the database or correct pg_database";
    if (strcmp(state, "53300") == 0)
        return "raise the server's max_connections or put a pooler in between";
    if (strcmp(state, "57P03") == 0)
        return "wait for the server to be ready";
    if (strstr(text, "certificate"))
        return "check lua_ssl_trusted_certificate and the name in pg_host";
    if (strstr(text, "SSL"))
        return "check pg_ssl";
    return "check pg_host and pg_port, and that the server runs there";
}

static enum sb_rc connect_failed(const struct attempt *at, PGconn *conn, enum sb_rc rc,
                                 struct sb_err *err)
{
    char line[512], state[6] = "";

    if (rc == SB_TIMEOUT) {
        snprintf(line, sizeof line, "timeout: no answer within %d ms", at->config->timeout_ms);
    } else {
        sqlstate_in(PQerrorMessage(conn), state);
        one_line(PQerrorMessage(conn), line, sizeof line);
        rc = state[0] ? sb_pg_sqlstate_rc(state) : SB_UNAVAILABLE;
    }
    return sb_err_set(err, rc == SB_INVALID ? SB_UNAVAILABLE : rc,
                      "cannot connect to PostgreSQL at %s:%s as user '%s', database '%s': %s (%s)",
                      at->host, at->port, or_default(at->config->user, "kong"),
                      or_default(at->config->database, "kong"), line, advice(state, line));
}

static enum sb_rc drive_connection(PGconn *conn, int64_t deadline)
{
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;

    if (PQstatus(conn) == CONNECTION_BAD)
        return SB_UNAVAILABLE;
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
    while (next != PGRES_POLLING_OK) {
        short events = next == PGRES_POLLING_READING ? POLLIN : POLLOUT;

        if (wait_for(PQsocket(conn), events, deadline))
            return SB_TIMEOUT;
        next = PQconnectPoll(conn);
        if (next == PGRES_POLLING_FAILED)
            return SB_UNAVAILABLE;
    }
    PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
    return SB_OK;
}

static void on_notice(void *arg, const PGresult *notice)
{
    const char *text = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);

    (void)arg;
    sb_debug("postgres: %s", text ? text : "");
}

static void add_literal(struct sb_buf *b, const char *name, const char *value, bool local)
{
    sb_buf_printf(b, ", set_config('%s', '", name);
    for (; *value; value++) {
        if (*value == '\'')
            sb_buf_char(b, '\'');
        sb_buf_char(b, *value);
    }
    sb_buf_printf(b, "', %s)", local ? "true" : "false");
}

/* What the session should keep, as one statement; local: for one transaction. */
static char *settings_sql(const struct sb_pg_config *c, bool local)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_buf b;
    char ms[16], *sql;

    sb_buf_init(&b, 0);
    sb_buf_cstr(&b, "SELECT 1");
    if (c->schema && *c->schema)
        add_literal(&b, "search_path", sb_pg_ident(a, c->schema).p, local);
    if (c->read_only)
        add_literal(&b, local ? "transaction_read_only" : "default_transaction_read_only", "on",
                    local);
    if (c->timeout_ms > 0 && !local) {
        snprintf(ms, sizeof ms, "%d", c->timeout_ms);
        add_literal(&b, "statement_timeout", ms, local);
    }
    sql = sb_xmalloc(b.len + 2);
    snprintf(sql, b.len + 2, "%.*s;", SB_ARG(sb_buf_get(&b)));
    if (strcmp(sql, "SELECT 1;") == 0)
        sql[0] = 0;
    sb_buf_release(&b);
    sb_arena_free(a);
    return sql;
}

/* Makes the new connection a session as promised; SB_AGAIN: not a fit host, try another. */
static enum sb_rc settle(struct sb_pg *pg, const struct attempt *at, struct sb_err *err)
{
    static const char sql[] = "SELECT pg_backend_pid(), pg_is_in_recovery(), "
                              "set_config('TimeZone', 'UTC', false), "
                              "set_config('DateStyle', 'ISO, MDY', false)";
    struct sb_pg_rows rows = {0};
    enum sb_rc rc;
    bool standby;

    rc = sb_pg_query(pg, sql, NULL, 0, &rows, err);
    if (rc)
        return rc;
    sb_pg_next(&rows);
    pg->pooled = sb_pg_int(&rows, 0) != PQbackendPID(pg->conn);
    standby = sb_str_is(sb_pg_text(&rows, 1), "t");
    sb_pg_rows_release(&rows);
    if (standby && at->several && !at->config->read_only)
        return sb_err_set(err, SB_UNAVAILABLE, "is a standby; pg_host needs the primary");

    pg->prepare = !pg->pooled;
    free(pg->prelude);
    pg->prelude = settings_sql(at->config, pg->pooled);
    if (pg->pooled)
        return SB_OK;
    rc = pg->prelude[0] ? sb_pg_exec(pg, pg->prelude, err) : SB_OK;
    pg->prelude[0] = 0;
    return rc;
}

static enum sb_rc connect_host(const struct attempt *at, struct sb_pg **out, struct sb_err *err)
{
    struct sb_pg *pg = sb_xcalloc(1, sizeof *pg);
    enum sb_rc rc;

    pg->timeout_ms = at->config->timeout_ms;
    pg->prelude = sb_xcalloc(1, 1);
    pg->scratch = sb_arena_new(0);
    pg->names = sb_arena_new(0);
    pg->conn = start_connection(at);
    rc = drive_connection(pg->conn, deadline_in(pg->timeout_ms));
    if (rc) {
        rc = connect_failed(at, pg->conn, rc, err);
    } else {
        PQsetnonblocking(pg->conn, 1);
        PQsetNoticeReceiver(pg->conn, on_notice, NULL);
        rc = settle(pg, at, err);
        if (rc)
            sb_err_at(err, "PostgreSQL at %s:%s", at->host, at->port);
    }
    if (rc) {
        sb_pg_free(pg);
        return rc;
    }
    *out = pg;
    return SB_OK;
}

static const char *system_ca(void)
{
    static const char *const paths[] = {
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/pki/tls/cacert.pem",
        "/etc/ssl/cert.pem",
    };

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (access(paths[i], R_OK) == 0)
            return paths[i];
    return NULL;
}

/* An item is `system`, a path, PEM text, or PEM text in base64. */
static enum sb_rc add_ca(struct sb_buf *b, struct sb_arena *a, struct sb_str item,
                         struct sb_err *err)
{
    const char *file = sb_str_is(item, "system") ? system_ca() : sb_arena_cstr(a, item);
    struct sb_str pem = item;

    if (!file)
        return sb_err_set(err, SB_INVALID,
                          "lua_ssl_trusted_certificate: no system certificate store was found");
    if (sb_str_starts(pem, SB_STR("-----BEGIN")) ||
        (sb_base64_decode(a, item, &pem) && sb_str_starts(pem, SB_STR("-----BEGIN"))))
        sb_buf_str(b, pem);
    else if (!sb_buf_read_file(b, file))
        return sb_err_set(err, SB_INVALID,
                          "lua_ssl_trusted_certificate: failed loading certificate from %.200s: %s",
                          file, strerror(errno));
    sb_buf_char(b, '\n');
    return SB_OK;
}

/* libpq wants one file, the setting may name several: they are joined in an anonymous file. */
static enum sb_rc open_ca(const struct sb_pg_config *c, struct sb_arena *a, int *fd,
                          struct sb_err *err)
{
    struct sb_str rest = sb_str_c(or_default(c->ssl_ca, "system")), path;
    enum sb_rc rc = SB_OK;
    struct sb_buf b;

    sb_buf_init(&b, CA_LEN_MAX);
    while (!rc && sb_str_split(&rest, ',', &path))
        rc = add_ca(&b, a, sb_str_trim(path), err);
    if (!rc) {
        *fd = memfd_create("ca", MFD_CLOEXEC);
        if (*fd < 0 || write(*fd, b.p, b.len) != (ssize_t)b.len)
            rc = sb_err_set(err, SB_IO, "lua_ssl_trusted_certificate: %s", strerror(errno));
    }
    sb_buf_release(&b);
    return rc;
}

static enum sb_rc connect_any(struct attempt *at, struct sb_pg **out, struct sb_err *err)
{
    const struct sb_pg_config *c = at->config;
    struct sb_str rest = sb_str_c(or_default(c->host, "127.0.0.1")), host;
    enum sb_rc rc = SB_INVALID;
    struct sb_err one, both = {0}, all = {0};

    at->several = sb_str_chr(rest, ',', 0) >= 0;
    snprintf(at->port, sizeof at->port, "%d", c->port > 0 ? c->port : 5432);
    while (sb_str_split(&rest, ',', &host)) {
        host = sb_str_trim(host);
        snprintf(at->host, sizeof at->host, "%.*s", SB_ARG(host));
        rc = connect_host(at, out, &one);
        if (!rc)
            return SB_OK;
        if (all.text[0])
            sb_err_set(&both, rc, "%.1000s; %.1000s", all.text, one.text);
        all = all.text[0] ? both : one;
    }
    return sb_err_set(err, rc, "%s", all.text);
}

enum sb_rc sb_pg_connect(const struct sb_pg_config *config, struct sb_pg **out, struct sb_err *err)
{
    struct attempt at = {.config = config};
    struct sb_arena *a = sb_arena_new(0);
    enum sb_rc rc = SB_OK;
    int fd = -1;

    if (config->ssl && config->ssl_verify) {
        rc = open_ca(config, a, &fd, err);
        at.ca = sb_arena_printf(a, "/proc/self/fd/%d", fd).p;
    }
    if (!rc)
        rc = connect_any(&at, out, err);
    if (fd >= 0)
        close(fd);
    sb_arena_free(a);
    return rc;
}

void sb_pg_free(struct sb_pg *pg)
{
    if (!pg)
        return;
    keep_error(pg, NULL);
    PQfinish(pg->conn);
    sb_map_release(&pg->prepared);
    sb_arena_free(pg->names);
    sb_arena_free(pg->scratch);
    free(pg->prelude);
    free(pg);
}

bool sb_pg_alive(const struct sb_pg *pg)
{
    return !pg->broken && PQstatus(pg->conn) == CONNECTION_OK;
}

int sb_pg_server_version(const struct sb_pg *pg)
{
    return PQserverVersion(pg->conn);
}

int sb_pg_socket(const struct sb_pg *pg)
{
    return PQsocket(pg->conn);
}

bool sb_pg_pooled(const struct sb_pg *pg)
{
    return pg->pooled;
}

void *sb_pg_handle(struct sb_pg *pg)
{
    return pg->conn;
}

bool sb_pg_in_transaction(const struct sb_pg *pg)
{
    PGTransactionStatusType t = PQtransactionStatus(pg->conn);

    return t == PQTRANS_INTRANS || t == PQTRANS_INERROR;
}

/* -- statements -------------------------------------------------------------------------------- */

static enum sb_rc send_text(struct sb_pg *pg, const char *sql, struct sb_err *err)
{
    PGresult *result = NULL;
    enum sb_rc rc;

    if (!PQsendQuery(pg->conn, sql))
        return lost(pg, err);
    rc = run(pg, &result, err);
    if (!rc)
        PQclear(result);
    return rc;
}

/* A transaction's own settings (BEGIN ISOLATION LEVEL) must come before any query. */
static const char *with_prelude(struct sb_pg *pg, const char *sql)
{
    int begin = strncmp(sql, "BEGIN", 5) == 0 ? (int)strcspn(sql, ";") : 0;
    const char *rest = sql + begin;

    sb_arena_clear(pg->scratch);
    if (!begin)
        return sb_arena_printf(pg->scratch, "%s%s", pg->prelude, sql).p;
    return sb_arena_printf(pg->scratch, "%.*s;%s%s", begin, sql, pg->prelude, *rest ? rest + 1 : "")
        .p;
}

enum sb_rc sb_pg_exec(struct sb_pg *pg, const char *sql, struct sb_err *err)
{
    enum sb_rc rc = start(pg, err);

    if (rc)
        return rc;
    /* Statements sent as one text are one transaction, and a BEGIN among them goes on with it: so
     * what the prelude sets lives exactly as long as it should. */
    if (pg->prelude[0] && !sb_pg_in_transaction(pg))
        sql = with_prelude(pg, sql);
    return send_text(pg, sql, err);
}

enum sb_rc sb_pg_set_timeout(struct sb_pg *pg, int timeout_ms, struct sb_err *err)
{
    char sql[64];

    pg->timeout_ms = timeout_ms;
    if (pg->pooled)
        return SB_OK; /* the pooler's session is not ours to set */
    snprintf(sql, sizeof sql, "SET statement_timeout = %d", timeout_ms);
    return sb_pg_exec(pg, sql, err);
}

/* libpq wants NUL-terminated text. */
static enum sb_rc copy_params(struct sb_pg *pg, const struct sb_str *params, int n,
                              const char *const **out, struct sb_err *err)
{
    const char **values = SB_NEW_N(pg->scratch, const char *, n);

    for (int i = 0; i < n; i++) {
        if (!params[i].p)
            continue;
        if (memchr(params[i].p, 0, params[i].len))
            return sb_err_set(err, SB_INVALID, "parameter $%d has a NUL character", i + 1);
        values[i] = sb_arena_cstr(pg->scratch, params[i]);
    }
    *out = values;
    return SB_OK;
}

static void forget_prepared(struct sb_pg *pg)
{
    sb_map_clear(&pg->prepared);
    sb_arena_clear(pg->names);
}

/* The name under which the server knows the statement. */
static enum sb_rc prepare(struct sb_pg *pg, const char *sql, int nparams, const char **name,
                          struct sb_err *err)
{
    PGresult *result = NULL;
    struct sb_str key;
    char fresh[32];
    enum sb_rc rc;

    *name = sb_map_get(&pg->prepared, sb_str_c(sql));
    if (*name)
        return SB_OK;
    snprintf(fresh, sizeof fresh, "sb_%u", pg->nprepared++);
    if (!PQsendPrepare(pg->conn, fresh, sql, nparams, NULL))
        return lost(pg, err);
    rc = run(pg, &result, err);
    if (rc)
        return rc;
    PQclear(result);
    key = sb_arena_str(pg->names, sb_str_c(sql));
    *name = sb_arena_cstr(pg->names, sb_str_c(fresh));
    sb_map_set(&pg->prepared, key, sb_arena_cstr(pg->names, sb_str_c(fresh)));
    return SB_OK;
}

static enum sb_rc send_query(struct sb_pg *pg, const char *sql, const char *const *values,
                             int nparams, PGresult **out, struct sb_err *err)
{
    const char *name = NULL;
    enum sb_rc rc;
    int sent;

    if (pg->prepare &&
        (pg->prepared.count < PREPARED_MAX || sb_map_get(&pg->prepared, sb_str_c(sql)))) {
        rc = prepare(pg, sql, nparams, &name, err);
        if (rc)
            return rc;
    }
    sent = name ? PQsendQueryPrepared(pg->conn, name, nparams, values, NULL, NULL, 0)
                : PQsendQueryParams(pg->conn, sql, nparams, NULL, values, NULL, NULL, 0);
    return sent ? run(pg, out, err) : lost(pg, err);
}

/* A prepared statement ends with DISCARD ALL, and when a migration changed what it returns. */
static bool is_stale(const struct sb_pg *pg)
{
    const char *state = sb_pg_sqlstate(pg);

    return strcmp(state, "26000") == 0 ||
           (strcmp(state, "0A000") == 0 && strstr(sb_pg_message(pg), "cached plan"));
}

static enum sb_rc query_once(struct sb_pg *pg, const char *sql, const char *const *values,
                             int nparams, PGresult **out, struct sb_err *err)
{
    enum sb_rc rc = send_query(pg, sql, values, nparams, out, err);

    if (!rc || !pg->prepared.count || !is_stale(pg))
        return rc;
    forget_prepared(pg);
    return sb_pg_in_transaction(pg) ? rc : send_query(pg, sql, values, nparams, out, err);
}

/* As a transaction of its own, so that the prelude holds for it. */
static enum sb_rc query_wrapped(struct sb_pg *pg, const char *sql, const char *const *values,
                                int nparams, PGresult **out, struct sb_err *err)
{
    PGresult *result = NULL;
    enum sb_rc rc;

    rc = send_text(pg, sb_arena_printf(pg->scratch, "BEGIN;%s", pg->prelude).p, err);
    if (!rc)
        rc = query_once(pg, sql, values, nparams, &result, err);
    if (rc) {
        PGresult *why = pg->error;

        pg->error = NULL;
        if (!pg->broken && send_text(pg, "ROLLBACK", NULL))
            pg->broken = true;
        keep_error(pg, why);
        return rc;
    }
    rc = send_text(pg, "COMMIT", err);
    if (rc)
        PQclear(result);
    else
        *out = result;
    return rc;
}

enum sb_rc sb_pg_query(struct sb_pg *pg, const char *sql, const struct sb_str *params, int nparams,
                       struct sb_pg_rows *rows, struct sb_err *err)
{
    const char *const *values = NULL;
    PGresult *result = NULL;
    enum sb_rc rc = start(pg, err);

    if (rc)
        return rc;
    sb_arena_clear(pg->scratch);
    rc = copy_params(pg, params, nparams, &values, err);
    if (rc)
        return rc;
    if (pg->prelude[0] && !sb_pg_in_transaction(pg))
        rc = query_wrapped(pg, sql, values, nparams, &result, err);
    else
        rc = query_once(pg, sql, values, nparams, &result, err);
    if (rc)
        return rc;
    *rows = (struct sb_pg_rows){result, PQntuples(result), PQnfields(result), -1};
    return SB_OK;
}

void sb_pg_set_prepare(struct sb_pg *pg, bool on)
{
    pg->prepare = on;
}

/* -- rows -------------------------------------------------------------------------------------- */

bool sb_pg_next(struct sb_pg_rows *rows)
{
    if (rows->at + 1 >= rows->count)
        return false;
    rows->at++;
    return true;
}

bool sb_pg_is_null(const struct sb_pg_rows *rows, int column)
{
    return PQgetisnull(rows->result, rows->at, column);
}

struct sb_str sb_pg_text(const struct sb_pg_rows *rows, int column)
{
    return sb_str_n(PQgetvalue(rows->result, rows->at, column),
                    (size_t)PQgetlength(rows->result, rows->at, column));
}

int64_t sb_pg_int(const struct sb_pg_rows *rows, int column)
{
    int64_t n = 0;

    return sb_str_int(sb_pg_text(rows, column), &n) ? n : 0;
}

int sb_pg_column(const struct sb_pg_rows *rows, const char *name)
{
    for (int i = 0; i < rows->columns; i++)
        if (strcmp(PQfname(rows->result, i), name) == 0)
            return i;
    return -1;
}

const char *sb_pg_column_name(const struct sb_pg_rows *rows, int column)
{
    return PQfname(rows->result, column);
}

void sb_pg_rows_release(struct sb_pg_rows *rows)
{
    PQclear(rows->result);
    *rows = (struct sb_pg_rows){0};
}

int64_t sb_pg_affected(const struct sb_pg_rows *rows)
{
    int64_t n = 0;

    return rows->result && sb_str_int(sb_str_c(PQcmdTuples(rows->result)), &n) ? n : 0;
}

/* -- notifications ----------------------------------------------------------------------------- */

bool sb_pg_next_notice(struct sb_pg *pg, struct sb_pg_notice *out)
{
    PGnotify *n;

    if (pg->broken)
        return false;
    n = PQnotifies(pg->conn);
    if (!n && !PQconsumeInput(pg->conn)) {
        pg->broken = true;
        return false;
    }
    if (!n)
        n = PQnotifies(pg->conn);
    if (!n)
        return false;
    snprintf(out->channel, sizeof out->channel, "%s", n->relname);
    snprintf(out->payload, sizeof out->payload, "%s", n->extra);
    PQfreemem(n);
    return true;
}

/* -- arrays and identifiers -------------------------------------------------------------------- */

struct sb_str sb_pg_array_text(struct sb_arena *a, const struct sb_str *items, size_t n)
{
    struct sb_str out;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_buf_char(&b, '{');
    for (size_t i = 0; i < n; i++) {
        if (i)
            sb_buf_char(&b, ',');
        sb_buf_char(&b, '"');
        for (size_t k = 0; k < items[i].len; k++) {
            if (items[i].p[k] == '"' || items[i].p[k] == '\\')
                sb_buf_char(&b, '\\');
            sb_buf_char(&b, items[i].p[k]);
        }
        sb_buf_char(&b, '"');
    }
    sb_buf_char(&b, '}');
    sb_assert(!b.full);
    out = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return out;
}

/* One item from *at on, unescaped into *room, which moves on; *at then stands on what follows it.
 */
static bool array_item(struct sb_str s, size_t *at, char **room, struct sb_str *out)
{
    bool quoted = s.p[*at] == '"';
    size_t i = *at + quoted;
    char *p = *room;

    for (; i < s.len && (quoted ? s.p[i] != '"' : s.p[i] != ',' && s.p[i] != '}'); i++) {
        if (s.p[i] == '{' && !quoted)
            return false; /* arrays of arrays are not ours */
        if (s.p[i] == '\\' && ++i == s.len)
            return false;
        *(*room)++ = s.p[i];
    }
    *out = sb_str_n(p, (size_t)(*room - p));
    if (!quoted && sb_str_is(*out, "NULL"))
        *out = (struct sb_str){NULL, 0};
    *(*room)++ = 0;
    *at = i + quoted;
    return *at < s.len;
}

bool sb_pg_array_parse(struct sb_arena *a, struct sb_str literal, struct sb_str **items, size_t *n)
{
    size_t cap = 1, count = 0, at = 0;
    struct sb_str *list;
    char *room;

    if (literal.len < 2 || literal.p[0] != '{' || literal.p[literal.len - 1] != '}')
        return false;
    for (size_t i = 0; i < literal.len; i++)
        cap += literal.p[i] == ',';
    list = SB_NEW_N(a, struct sb_str, cap);
    room = sb_arena_alloc(a, literal.len + cap);
    if (literal.len > 2) {
        do {
            at++;
            if (count == cap || !array_item(literal, &at, &room, &list[count++]))
                return false;
        } while (literal.p[at] == ',' && at + 1 < literal.len);
        if (at != literal.len - 1)
            return false;
    }
    *items = list;
    *n = count;
    return true;
}

struct sb_str sb_pg_ident(struct sb_arena *a, const char *name)
{
    size_t n = 0, len = strlen(name);
    char *p = sb_arena_alloc(a, 2 * len + 3);

    p[n++] = '"';
    for (; *name; name++) {
        if (*name == '"')
            p[n++] = '"';
        p[n++] = *name;
    }
    p[n++] = '"';
    p[n] = 0;
    return sb_str_n(p, n);
}
