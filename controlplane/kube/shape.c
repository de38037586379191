/* shape.c - the members that translation reads, each with the kind of value that it must hold.
 *
 * A path names members; "[]" goes through the items of an array, "{}" through the members of an
 * object: "spec.rules[].host", "metadata.annotations{}". On the way everything must be what the
 * path takes it for, so "spec.rules: hello" is found by the same row.
 */
#include "controlplane/kube/shape.h"

#include <stdio.h>

#include "shared/buf.h"
#include "shared/digest.h"

enum type { TEXT, INT, BOOL, BASE64, PATH_TYPE };

enum { WHERE_MAX = 256 };

struct row {
    const char *kind; /* NULL: every kind */
    const char *path;
    enum type type;
};

#define BACKEND(at)                                                                                \
    {"Ingress", at ".service.name", TEXT}, {"Ingress", at ".service.port.number", INT},            \
    {                                                                                              \
        "Ingress", at ".service.port.name", TEXT                                                   \
    }

static const struct row rows[] = {
    {NULL, "metadata.name", TEXT},
    {NULL, "metadata.namespace", TEXT},
    {NULL, "metadata.annotations{}", TEXT},
    {NULL, "metadata.labels{}", TEXT},
    {"Ingress", "spec.ingressClassName", TEXT},
    {"Ingress", "spec.rules[].host", TEXT},
    {"Ingress", "spec.rules[].http.paths[].path", TEXT},
    {"Ingress", "spec.rules[].http.paths[].pathType", PATH_TYPE},
    BACKEND("spec.rules[].http.paths[].backend"),
    BACKEND("spec.defaultBackend"),
    {"Ingress", "spec.tls[].hosts[]", TEXT},
    {"Ingress", "spec.tls[].secretName", TEXT},
    {"IngressClass", "spec.controller", TEXT},
    {"Service", "spec.type", TEXT},
    {"Service", "spec.externalName", TEXT},
    {"Service", "spec.ports[].name", TEXT},
    {"Service", "spec.ports[].port", INT},
    {"Service", "spec.ports[].protocol", TEXT},
    {"EndpointSlice", "addressType", TEXT},
    {"EndpointSlice", "ports[].name", TEXT},
    {"EndpointSlice", "ports[].port", INT},
    {"EndpointSlice", "endpoints[].addresses[]", TEXT},
    {"EndpointSlice", "endpoints[].conditions.ready", BOOL},
    {"EndpointSlice", "endpoints[].conditions.terminating", BOOL},
    {"Secret", "type", TEXT},
    {"Secret", "data{}", BASE64},
    {"Secret", "stringData{}", TEXT},
    {"ConfigMap", "data{}", TEXT},
};

static const char *const found[] = {
    [SB_V_NULL] = "null",        [SB_V_BOOL] = "true or false", [SB_V_INT] = "a number",
    [SB_V_NUM] = "a number",     [SB_V_STR] = "a string",       [SB_V_ARRAY] = "a list",
    [SB_V_OBJECT] = "a mapping",
};

struct walk {
    const struct row *row;
    struct sb_err *err;
};

static enum sb_rc must_be(struct walk *w, const char *where, const char *expected,
                          const struct sb_value *v)
{
    return sb_err_set(w->err, SB_INVALID, "%s: must be %s, not %s", where, expected,
                      found[v->type]);
}

static enum sb_rc check_base64(struct walk *w, const char *where, struct sb_str text)
{
    struct sb_arena *scratch = sb_arena_new(0);
    struct sb_str decoded;
    bool ok = sb_base64_decode(scratch, text, &decoded);

    sb_arena_free(scratch);
    if (ok)
        return SB_OK;
    return sb_err_set(w->err, SB_INVALID, "%s: is not base64 (plain text goes into stringData)",
                      where);
}

static enum sb_rc check_path_type(struct walk *w, const char *where, struct sb_str s)
{
    if (sb_str_is(s, "Exact") || sb_str_is(s, "Prefix") || sb_str_is(s, "ImplementationSpecific"))
        return SB_OK;
    return sb_err_set(w->err, SB_INVALID,
                      "%s: must be Exact, Prefix or ImplementationSpecific, not \"%.*s\"", where,
                      SB_ARG(s));
}

static enum sb_rc check_leaf(struct walk *w, const char *where, const struct sb_value *v)
{
    switch (w->row->type) {
    case INT:
        return v->type == SB_V_INT ? SB_OK : must_be(w, where, "an integer", v);
    case BOOL:
        return v->type == SB_V_BOOL ? SB_OK : must_be(w, where, "true or false", v);
    default:
        break;
    }
    if (v->type == SB_V_BOOL || sb_is_number(v))
        return must_be(w, where, "a string (put it in quotes)", v);
    if (v->type != SB_V_STR)
        return must_be(w, where, "a string", v);
    if (w->row->type == BASE64)
        return check_base64(w, where, v->s);
    return w->row->type == PATH_TYPE ? check_path_type(w, where, v->s) : SB_OK;
}

static enum sb_rc check_at(struct walk *w, const struct sb_value *v, const char *path,
                           const char *where);

static enum sb_rc each_item(struct walk *w, const struct sb_value *v, const char *path,
                            const char *where)
{
    char at[WHERE_MAX];
    enum sb_rc rc = SB_OK;

    if (v->type != SB_V_ARRAY)
        return must_be(w, where, "a list", v);
    for (uint32_t i = 0; i < v->count && !rc; i++) {
        snprintf(at, sizeof at, "%s[%u]", where, i);
        rc = check_at(w, v->items[i], path, at);
    }
    return rc;
}

static enum sb_rc each_member(struct walk *w, const struct sb_value *v, const char *path,
                              const char *where)
{
    const struct sb_member *m;
    char at[WHERE_MAX];
    enum sb_rc rc = SB_OK;

    if (v->type != SB_V_OBJECT)
        return must_be(w, where, "a mapping", v);
    sb_object_each (m, v) {
        snprintf(at, sizeof at, "%s[\"%.*s\"]", where, SB_ARG(m->key));
        rc = check_at(w, m->value, path, at);
        if (rc)
            break;
    }
    return rc;
}

/* `path` is what is left of the row's, `where` what has been walked. */
static enum sb_rc check_at(struct walk *w, const struct sb_value *v, const char *path,
                           const char *where)
{
    size_t len;
    char at[WHERE_MAX];

    if (sb_is_nil(v))
        return SB_OK;
    if (!*path)
        return check_leaf(w, where, v);
    if (!strncmp(path, "[]", 2))
        return each_item(w, v, path + 2, where);
    if (!strncmp(path, "{}", 2))
        return each_member(w, v, path + 2, where);
    if (v->type != SB_V_OBJECT)
        return must_be(w, where, "a mapping", v);
    path += *path == '.';
    len = strcspn(path, ".[{");
    snprintf(at, sizeof at, "%s%s%.*s", where, *where ? "." : "", (int)len, path);
    return check_at(w, sb_object_get(v, sb_str_n(path, len)), path + len, at);
}

enum sb_rc sb_shape_check(const struct sb_kind *kind, const struct sb_value *object,
                          struct sb_err *err)
{
    enum sb_rc rc = SB_OK;

    for (size_t i = 0; i < sizeof rows / sizeof *rows && !rc; i++) {
        struct walk w = {.row = &rows[i], .err = err};

        if (!rows[i].kind || !strcmp(rows[i].kind, kind->kind))
            rc = check_at(&w, object, rows[i].path, "");
    }
    return rc;
}
