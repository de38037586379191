/* compile.c - see compile.h. Field names and defaults: reference/entities.md. */
#include "dataplane/config/compile.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "schema/entity.h"
#include "shared/err.h"

enum { TARGET_PORT = 8000, WEIGHT = 100, SLOTS = 10000, TIMEOUT_MS = 60000, RETRIES = 5 };

static struct sb_str copy_at(struct sb_arena *a, const struct sb_value *row, const char *field)
{
    return sb_arena_str(a, sb_value_str_at(row, field));
}

/* A whole number in its range; null is the default. */
static enum sb_rc int_at(const struct sb_value *row, const char *field, int64_t def, int64_t min,
                         int64_t max, int *out, struct sb_err *err)
{
    int64_t v = sb_value_int_at(row, field, def);

    if (v < min || v > max)
        return sb_err_set(err, SB_INVALID, "%s is %lld: must be between %lld and %lld", field,
                          (long long)v, (long long)min, (long long)max);
    *out = (int)v;
    return SB_OK;
}

struct word {
    const char *text;
    int value;
};

static enum sb_rc word_of(const struct word *words, struct sb_str text, const char *field, int *out,
                          struct sb_err *err)
{
    for (const struct word *w = words; w->text; w++) {
        if (sb_str_is(text, w->text)) {
            *out = w->value;
            return SB_OK;
        }
    }
    return sb_err_set(err, SB_INVALID, "%s is not known: '%.*s'", field, SB_ARG(text));
}

static const struct word protocols[] = {
    {"http", SB_PROTO_HTTP},
    {"https", SB_PROTO_HTTPS},
    {"grpc", SB_PROTO_GRPC},
    {"grpcs", SB_PROTO_GRPCS},
    {"tcp", SB_PROTO_TCP},
    {"tls", SB_PROTO_TLS},
    {"tls_passthrough", SB_PROTO_TLS_PASSTHROUGH},
    {"udp", SB_PROTO_UDP},
    {NULL, 0},
};

/* -- certificates -- */

static enum sb_rc openssl_says(struct sb_err *err, const char *field)
{
    unsigned long code = ERR_peek_last_error();
    char text[256] = "it is not in PEM form";

    if (code && ERR_GET_REASON(code) != PEM_R_NO_START_LINE)
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return sb_err_set(err, SB_INVALID, "%s can't be read: %s", field, text);
}

static void free_x509(void *p)
{
    X509_free(p);
}

static void free_key(void *p)
{
    EVP_PKEY_free(p);
}

static void free_chain(void *p)
{
    sk_X509_pop_free(p, X509_free);
}

static void free_bio(void *p)
{
    BIO_free(p);
}

static BIO *bio_of(struct sb_arena *a, struct sb_str text)
{
    BIO *bio = BIO_new_mem_buf(text.p, (int)text.len);

    sb_assert(bio);
    sb_arena_defer(a, free_bio, bio);
    return bio;
}

/* A key that is encrypted has no one to ask for its passphrase. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return 0;
}

/* The first certificate is the server's, the rest its chain. */
static enum sb_rc read_chain(struct sb_arena *a, const struct sb_value *row, const char *field,
                             X509 **cert, STACK_OF(X509) * *chain, struct sb_err *err)
{
    BIO *bio = bio_of(a, sb_value_str_at(row, field));
    X509 *next;

    *cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
    if (!*cert)
        return openssl_says(err, field);
    sb_arena_defer(a, free_x509, *cert);
    *chain = sk_X509_new_null();
    sb_arena_defer(a, free_chain, *chain);
    while ((next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)))
        sk_X509_push(*chain, next);
    ERR_clear_error(); /* the end of the text is one */
    return SB_OK;
}

static enum sb_rc read_pair(struct sb_arena *a, const struct sb_value *row, const char *cert_field,
                            const char *key_field, X509 **cert, STACK_OF(X509) * *chain,
                            EVP_PKEY **key, struct sb_err *err)
{
    enum sb_rc rc = read_chain(a, row, cert_field, cert, chain, err);

    if (rc)
        return rc;
    *key = PEM_read_bio_PrivateKey(bio_of(a, sb_value_str_at(row, key_field)), NULL, no_passphrase,
                                   NULL);
    if (!*key)
        return openssl_says(err, key_field);
    sb_arena_defer(a, free_key, *key);
    if (!X509_check_private_key(*cert, *key)) {
        ERR_clear_error();
        return sb_err_set(err, SB_INVALID, "%s does not belong to %s", key_field, cert_field);
    }
    return SB_OK;
}

enum sb_rc sb_compile_certificate(struct sb_arena *a, const struct sb_value *row,
                                  struct sb_certificate **out, struct sb_err *err)
{
    struct sb_certificate *c = SB_NEW(a, struct sb_certificate);
    enum sb_rc rc;

    c->id = copy_at(a, row, "id");
    rc = read_pair(a, row, "cert", "key", &c->cert, &c->chain, &c->key, err);
    if (!rc && sb_value_str_at(row, "cert_alt").len)
        rc =
            read_pair(a, row, "cert_alt", "key_alt", &c->cert_alt, &c->chain_alt, &c->key_alt, err);
    if (!rc)
        *out = c;
    return rc;
}

enum sb_rc sb_compile_ca_certificate(struct sb_arena *a, const struct sb_value *row, X509 **out,
                                     struct sb_err *err)
{
    STACK_OF(X509) * chain;

    return read_chain(a, row, "cert", out, &chain, err);
}

/* -- services -- */

bool sb_host_is_address(struct sb_str host)
{
    size_t digits = 0, colons = 0;

    for (size_t i = 0; i < host.len; i++) {
        digits += (host.p[i] >= '0' && host.p[i] <= '9') || host.p[i] == '.';
        colons += host.p[i] == ':';
    }
    return colons >= 2 || digits == host.len;
}

/* The text of a list's strings, copied. */
static const struct sb_str *copy_list(struct sb_arena *a, const struct sb_value *list, size_t *n)
{
    const struct sb_value *item;
    struct sb_str *copy;

    *n = 0;
    if (!sb_is(list, SB_V_ARRAY) || !list->count)
        return NULL;
    copy = SB_NEW_N(a, struct sb_str, list->count);
    sb_array_each (item, list) {
        if (sb_is(item, SB_V_STR))
            copy[(*n)++] = sb_arena_str(a, item->s);
    }
    return copy;
}

static enum sb_rc service_numbers(const struct sb_value *row, struct sb_service *s,
                                  struct sb_err *err)
{
    int port = 0;
    const struct {
        const char *field;
        int64_t def, min, max;
        int *out;
    } numbers[] = {
        {"port", 80, 0, 65535, &port},
        {"retries", RETRIES, 0, 32767, &s->retries},
        {"connect_timeout", TIMEOUT_MS, 1, INT32_MAX, &s->connect_timeout_ms},
        {"write_timeout", TIMEOUT_MS, 1, INT32_MAX, &s->write_timeout_ms},
        {"read_timeout", TIMEOUT_MS, 1, INT32_MAX, &s->read_timeout_ms},
        {"tls_verify_depth", -1, -1, 64, &s->tls_verify_depth},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        enum sb_rc rc = int_at(row, numbers[i].field, numbers[i].def, numbers[i].min,
                               numbers[i].max, numbers[i].out, err);

        if (rc)
            return rc;
    }
    s->port = (uint16_t)port;
    return SB_OK;
}

enum sb_rc sb_compile_service(struct sb_arena *a, const struct sb_value *row,
                              struct sb_service **out, struct sb_err *err)
{
    struct sb_service *s = SB_NEW(a, struct sb_service);
    const struct sb_value *verify = sb_get(row, "tls_verify");
    struct sb_str protocol = sb_value_str_at(row, "protocol");
    int bit = SB_PROTO_HTTP;
    enum sb_rc rc;

    s->id = copy_at(a, row, "id");
    s->name = copy_at(a, row, "name");
    s->host = copy_at(a, row, "host");
    s->path = copy_at(a, row, "path");
    s->enabled = sb_value_bool_at(row, "enabled", true);
    s->tls_verify = sb_is(verify, SB_V_BOOL) ? verify->b : -1;
    s->ca_certificates = copy_list(a, sb_get(row, "ca_certificates"), &s->nca_certificates);
    if (!s->host.len)
        return sb_err_set(err, SB_INVALID, "host is empty");
    if (protocol.len && (rc = word_of(protocols, protocol, "protocol", &bit, err)))
        return rc;
    s->protocol = (enum sb_protocol)bit;
    if ((rc = service_numbers(row, s, err)))
        return rc;
    *out = s;
    return SB_OK;
}

/* -- routes -- */

static enum sb_rc route_protocols(const struct sb_value *row, unsigned *out, struct sb_err *err)
{
    const struct sb_value *list = sb_get(row, "protocols"), *item;

    *out = sb_is(list, SB_V_ARRAY) && list->count ? 0 : SB_PROTO_HTTP | SB_PROTO_HTTPS;
    sb_array_each (item, list) {
        int bit = 0;
        enum sb_rc rc = word_of(protocols, sb_is(item, SB_V_STR) ? item->s : SB_STR(""),
                                "protocols", &bit, err);

        if (rc)
            return rc;
        *out |= (unsigned)bit;
    }
    return SB_OK;
}

enum sb_rc sb_compile_route(struct sb_arena *a, const struct sb_value *row,
                            const struct sb_service *service, struct sb_route **out,
                            struct sb_err *err)
{
    struct sb_route *r = SB_NEW(a, struct sb_route);
    bool grpc;
    enum sb_rc rc;

    r->id = copy_at(a, row, "id");
    r->name = copy_at(a, row, "name");
    if ((rc = route_protocols(row, &r->protocols, err)))
        return rc;
    if ((rc = int_at(row, "https_redirect_status_code", 426, 300, 499,
                     &r->https_redirect_status_code, err)))
        return rc;
    grpc = r->protocols & (SB_PROTO_GRPC | SB_PROTO_GRPCS);
    r->strip_path = sb_value_bool_at(row, "strip_path", !grpc);
    r->preserve_host = sb_value_bool_at(row, "preserve_host", false);
    r->request_buffering = sb_value_bool_at(row, "request_buffering", true);
    r->response_buffering = sb_value_bool_at(row, "response_buffering", true);
    r->path_handling_v1 = sb_str_is(sb_value_str_at(row, "path_handling"), "v1");
    r->service = service;
    *out = r;
    return SB_OK;
}

/* -- upstreams -- */

/* "host", "host:port", "[v6]:port" or "v6". */
static bool split_target(struct sb_str text, struct sb_str *host, struct sb_str *port)
{
    ptrdiff_t colon = sb_str_rchr(text, ':'), close = sb_str_rchr(text, ']');

    *host = text;
    *port = SB_STR("");
    if (text.len && text.p[0] == '[') {
        if (close < 2 || (close + 1 < (ptrdiff_t)text.len && colon != close + 1))
            return false;
        *host = sb_str_n(text.p + 1, (size_t)close - 1);
        *port = colon > close ? sb_str_from(text, (size_t)colon + 1) : *port;
        return colon < close || port->len;
    }
    if (colon < 0 || sb_str_chr(text, ':', 0) != colon)
        return text.len > 0;
    *host = sb_str_first(text, (size_t)colon);
    *port = sb_str_from(text, (size_t)colon + 1);
    return host->len && port->len;
}

enum sb_rc sb_compile_target(struct sb_arena *a, const struct sb_value *row,
                             struct sb_compiled_target **out, struct sb_err *err)
{
    struct sb_compiled_target *c = SB_NEW(a, struct sb_compiled_target);
    struct sb_str text = sb_value_str_at(row, "target"), host, port_text;
    const struct sb_value *created = sb_get(row, "created_at");
    int64_t port = TARGET_PORT;
    enum sb_rc rc;

    if (!split_target(text, &host, &port_text) ||
        (port_text.len && (!sb_str_int(port_text, &port) || port < 0 || port > UINT16_MAX)))
        return sb_err_set(err, SB_INVALID, "target is not a host and port: '%.*s'", SB_ARG(text));
    if ((rc = int_at(row, "weight", WEIGHT, 0, 65535, &c->target.weight, err)))
        return rc;
    c->target.id = copy_at(a, row, "id");
    c->target.target = sb_str_chr(host, ':', 0) >= 0
                           ? sb_arena_printf(a, "[%.*s]:%d", SB_ARG(host), (int)port)
                           : sb_arena_printf(a, "%.*s:%d", SB_ARG(host), (int)port);
    c->target.host = sb_arena_str(a, host);
    c->target.port = (uint16_t)port;
    c->created_s = sb_is_number(created) ? sb_number(created) : 0;
    *out = c;
    return SB_OK;
}

/* By name, then the newest first. */
static int by_name_and_age(const void *pa, const void *pb)
{
    const struct sb_compiled_target *a = *(const struct sb_compiled_target *const *)pa;
    const struct sb_compiled_target *b = *(const struct sb_compiled_target *const *)pb;
    int c = sb_str_cmp(a->target.host, b->target.host);

    if (c == 0)
        c = a->target.port - b->target.port;
    if (c == 0)
        c = (a->created_s < b->created_s) - (a->created_s > b->created_s);
    return c ? c : sb_str_cmp(b->target.id, a->target.id);
}

static void copy_targets(struct sb_arena *a, const struct sb_compiled_target **from, size_t n,
                         struct sb_upstream *u)
{
    struct sb_target *to = SB_NEW_N(a, struct sb_target, n);

    if (n)
        qsort(from, n, sizeof *from, by_name_and_age);
    for (size_t i = 0; i < n; i++) {
        struct sb_target t = from[i]->target;

        if (u->ntargets && sb_str_eq(to[u->ntargets - 1].target, t.target))
            continue;
        t.id = sb_arena_str(a, t.id);
        t.target = sb_arena_str(a, t.target);
        t.host = sb_arena_str(a, t.host);
        to[u->ntargets++] = t;
    }
    u->targets = to;
}

static const struct word algorithms[] = {
    {"round-robin", SB_ALGO_ROUND_ROBIN},
    {"consistent-hashing", SB_ALGO_CONSISTENT_HASHING},
    {"least-connections", SB_ALGO_LEAST_CONNECTIONS},
    {"latency", SB_ALGO_LATENCY},
    {NULL, 0},
};

/* The algorithm and hash_on decide about each other, also in rows that no one checked. */
static enum sb_rc algorithm_of(const struct sb_value *row, enum sb_algorithm *out,
                               struct sb_err *err)
{
    struct sb_str text = sb_value_str_at(row, "algorithm");
    struct sb_str hash_on = sb_value_str_at(row, "hash_on");
    int algorithm = SB_ALGO_ROUND_ROBIN;
    enum sb_rc rc;

    if (text.len && (rc = word_of(algorithms, text, "algorithm", &algorithm, err)))
        return rc;
    if (algorithm == SB_ALGO_ROUND_ROBIN || algorithm == SB_ALGO_CONSISTENT_HASHING)
        algorithm = hash_on.len && !sb_str_is(hash_on, "none") ? SB_ALGO_CONSISTENT_HASHING
                                                               : SB_ALGO_ROUND_ROBIN;
    *out = (enum sb_algorithm)algorithm;
    return SB_OK;
}

enum sb_rc sb_compile_upstream(struct sb_arena *a, const struct sb_value *row,
                               const struct sb_compiled_target **targets, size_t ntargets,
                               struct sb_upstream **out, struct sb_err *err)
{
    struct sb_schema_ctx ctx = {.arena = a};
    struct sb_upstream *u = SB_NEW(a, struct sb_upstream);
    enum sb_rc rc;

    u->id = copy_at(a, row, "id");
    u->name = copy_at(a, row, "name");
    u->host_header = copy_at(a, row, "host_header");
    u->use_srv_name = sb_value_bool_at(row, "use_srv_name", false);
    if (!u->name.len)
        return sb_err_set(err, SB_INVALID, "name is empty");
    if ((rc = algorithm_of(row, &u->algorithm, err)))
        return rc;
    if ((rc = int_at(row, "slots", SLOTS, 10, 65536, &u->slots, err)))
        return rc;
    u->entity = sb_entity_read(&ctx, sb_entity_find(SB_STR("upstreams")), sb_value_copy(a, row));
    copy_targets(a, targets, ntargets, u);
    *out = u;
    return SB_OK;
}
