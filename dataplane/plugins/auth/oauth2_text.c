#include "dataplane/plugins/auth/oauth2_text.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "dataplane/plugins/args.h"
#include "dataplane/plugins/auth/auth_text.h"
#include "shared/buf.h"
#include "shared/digest.h"

/* -- scopes -------------------------------------------------------------------------------------
 */

static bool contains(const struct sb_value *list, struct sb_str word)
{
    const struct sb_value *item;

    sb_array_each (item, list)
        if (sb_is(item, SB_V_STR) && sb_str_eq(item->s, word))
            return true;
    return false;
}

static bool next_word(struct sb_str *rest, struct sb_str *word)
{
    size_t n = 0;

    *rest = sb_str_trim(*rest);
    while (n < rest->len && !isspace((unsigned char)rest->p[n]))
        n++;
    *word = sb_str_first(*rest, n);
    *rest = sb_str_from(*rest, n);
    return n > 0;
}

bool sb_oauth2_scope(struct sb_arena *a, const struct sb_value *allowed, struct sb_str scope,
                     struct sb_str *out, struct sb_str *wrong)
{
    char *text = sb_arena_alloc(a, scope.len + 1);
    struct sb_str word;
    size_t n = 0;

    while (next_word(&scope, &word)) {
        if (!contains(allowed, word)) {
            *wrong = word;
            return false;
        }
        if (n)
            text[n++] = ' ';
        memcpy(text + n, word.p, word.len);
        n += word.len;
    }
    *out = n ? sb_str_n(text, n) : (struct sb_str){0};
    return true;
}

/* -- redirects ----------------------------------------------------------------------------------
 */

struct uri {
    struct sb_str base, query, fragment; /* query and fragment: p NULL where absent */
};

static struct uri split_uri(struct sb_str text)
{
    struct uri u = {.base = text};
    ptrdiff_t at = sb_str_chr(u.base, '#', 0);

    if (at >= 0) {
        u.fragment = sb_str_from(u.base, (size_t)at + 1);
        u.base = sb_str_first(u.base, (size_t)at);
    }
    at = sb_str_chr(u.base, '?', 0);
    if (at >= 0) {
        u.query = sb_str_from(u.base, (size_t)at + 1);
        u.base = sb_str_first(u.base, (size_t)at);
    }
    return u;
}

static void encode(struct sb_buf *b, struct sb_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (isalnum(c) || c == '_')
            sb_buf_char(b, (char)c);
        else
            sb_buf_printf(b, "%%%02x", c);
    }
}

static int by_key(const void *a, const void *b)
{
    return sb_str_cmp(((const struct sb_member *)a)->key, ((const struct sb_member *)b)->key);
}

static void encode_value(struct sb_buf *b, const struct sb_value *value)
{
    sb_buf_char(b, '=');
    if (value->type == SB_V_STR)
        encode(b, value->s);
    else
        sb_buf_printf(b, "%lld", (long long)value->i);
}

/* name[1]=a&name[2]=b */
static void encode_list(struct sb_arena *a, struct sb_buf *b, struct sb_str name,
                        const struct sb_value *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            sb_buf_char(b, '&');
        encode(b, sb_arena_printf(a, "%.*s[%zu]", SB_ARG(name), i + 1));
        encode_value(b, list->items[i]);
    }
}

/* Sorted by name; an empty text is its name alone, as it is. */
static struct sb_str encode_members(struct sb_arena *a, struct sb_value *object)
{
    const struct sb_member *m;
    struct sb_str out;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    qsort(object->members, object->count, sizeof *object->members, by_key);
    sb_object_each (m, object) {
        if (m != object->members)
            sb_buf_char(&b, '&');
        if (m->value->type == SB_V_ARRAY) {
            encode_list(a, &b, m->key, m->value);
        } else if (m->value->type == SB_V_STR && !m->value->s.len) {
            sb_buf_str(&b, m->key);
        } else {
            encode(&b, m->key);
            encode_value(&b, m->value);
        }
    }
    out = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return out;
}

/* One more argument of the URI; several of a name become a list, one without a value says true. */
static void add_argument(struct sb_arena *a, struct sb_value *object, const struct sb_arg *arg)
{
    struct sb_value *value = arg->value.p ? sb_value_str(a, arg->value) : sb_value_text(a, "true");
    struct sb_value *before = sb_object_get(object, arg->name), *list;

    if (before && before->type == SB_V_ARRAY) {
        sb_array_push(a, before, value);
        return;
    }
    if (before) {
        list = sb_value_array(a);
        sb_array_push(a, list, before);
        sb_array_push(a, list, value);
        value = list;
    }
    sb_object_set(a, object, arg->name, value);
}

struct sb_str sb_oauth2_redirect(struct sb_arena *a, struct sb_str uri,
                                 const struct sb_value *parameters, bool into_fragment)
{
    struct uri u = split_uri(uri);
    struct sb_str rest = into_fragment ? u.fragment : u.query, out;
    struct sb_value *all = sb_value_object(a);
    const struct sb_member *m;
    struct sb_arg arg;
    struct sb_buf b;

    while (rest.len && sb_arg_next(a, &rest, &arg))
        add_argument(a, all, &arg);
    sb_object_each (m, parameters)
        sb_object_set(a, all, m->key, m->value);
    sb_buf_init(&b, 0);
    sb_buf_str(&b, u.base);
    if (into_fragment && u.query.p)
        sb_buf_printf(&b, "?%.*s", SB_ARG(u.query));
    sb_buf_char(&b, into_fragment ? '#' : '?');
    sb_buf_str(&b, encode_members(a, all));
    if (!into_fragment && u.fragment.p)
        sb_buf_printf(&b, "#%.*s", SB_ARG(u.fragment));
    out = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return out;
}

/* -- challenges ---------------------------------------------------------------------------------
 */

struct sb_str sb_oauth2_challenge(struct sb_arena *a, struct sb_str challenge)
{
    char *out = sb_arena_alloc(a, challenge.len + 1);
    size_t n = 0;

    while (n < challenge.len && challenge.p[n] != '=') {
        char c = challenge.p[n];

        out[n++] = c == '+' ? '-' : c == '/' ? '_' : c;
    }
    return sb_str_n(out, n);
}

bool sb_oauth2_verifier_fits(struct sb_arena *a, struct sb_str verifier, struct sb_str challenge)
{
    uint8_t sha[SB_SHA256_LEN];

    sb_sha256(verifier, sha);
    return sb_secret_eq(sb_base64url_encode(a, sb_str_n((const char *)sha, sizeof sha)),
                        sb_oauth2_challenge(a, challenge));
}

/* -- hashed secrets -----------------------------------------------------------------------------
 */

static const struct sb_str hash_scheme = SB_STR_INIT("$pbkdf2-sha512$");
static const struct sb_str hash_current = SB_STR_INIT("$pbkdf2-sha512$i=10000,l=32$");

struct hash {
    int64_t rounds, len;
    struct sb_str salt, hash; /* decoded */
};

static bool parse_hash(struct sb_arena *a, struct sb_str stored, struct hash *out)
{
    struct sb_str rest = sb_str_from(stored, hash_scheme.len), words, word, salt;

    if (!sb_str_split(&rest, '$', &words) || !sb_str_split(&rest, '$', &salt) || !rest.p)
        return false;
    while (sb_str_split(&words, ',', &word)) {
        struct sb_str value = sb_str_from(word, 2);

        if (sb_str_starts(word, SB_STR("i=")) && !sb_str_int(value, &out->rounds))
            return false;
        if (sb_str_starts(word, SB_STR("l=")) && !sb_str_int(value, &out->len))
            return false;
    }
    return out->rounds > 0 && out->rounds <= 1000000 && sb_base64_decode(a, salt, &out->salt) &&
           sb_base64_decode(a, rest, &out->hash) && out->hash.len == (size_t)out->len &&
           out->hash.len && out->hash.len <= EVP_MAX_MD_SIZE;
}

bool sb_oauth2_hash_fits(struct sb_arena *a, struct sb_str stored, struct sb_str secret,
                         bool *current)
{
    struct hash h = {0};
    uint8_t made[EVP_MAX_MD_SIZE];

    *current = sb_str_starts(stored, hash_current);
    return sb_str_starts(stored, hash_scheme) && parse_hash(a, stored, &h) &&
           PKCS5_PBKDF2_HMAC(secret.p, (int)secret.len, (const uint8_t *)h.salt.p, (int)h.salt.len,
                             (int)h.rounds, EVP_sha512(), (int)h.hash.len, made) == 1 &&
           sb_secret_eq(sb_str_n((const char *)made, h.hash.len), h.hash);
}
