/* snapshot.c - how workers look things up in a snapshot. Building it is build.c's. */
#include "dataplane/config/snapshot.h"

#include "dataplane/config/table.h"

/* DNS allows 253 bytes; what is longer has no SNI row. */
enum { NAME_LEN_MAX = 255 };

static const struct sb_certificate *find(const struct sb_snapshot *snap, struct sb_str name)
{
    const struct sb_sni *sni = sb_table_find(snap->snis, name);

    return sni ? sni->certificate : NULL;
}

/* "*" and the name from its first dot on; for names of three labels and more. */
static const struct sb_certificate *find_suffix(const struct sb_snapshot *snap, struct sb_str name)
{
    char text[NAME_LEN_MAX + 1];
    ptrdiff_t dot = sb_str_chr(name, '.', 0);
    struct sb_str rest;

    if (dot < 0 || sb_str_chr(name, '.', (size_t)dot + 1) < 0)
        return NULL;
    rest = sb_str_from(name, (size_t)dot);
    text[0] = '*';
    memcpy(text + 1, rest.p, rest.len);
    return find(snap, sb_str_n(text, rest.len + 1));
}

/* The name up to its last dot, and "*". */
static const struct sb_certificate *find_prefix(const struct sb_snapshot *snap, struct sb_str name)
{
    char text[NAME_LEN_MAX + 1];
    ptrdiff_t dot = sb_str_rchr(name, '.');

    if (dot < 0)
        return NULL;
    memcpy(text, name.p, (size_t)dot + 1);
    text[dot + 1] = '*';
    return find(snap, sb_str_n(text, (size_t)dot + 2));
}

const struct sb_certificate *sb_snapshot_certificate(const struct sb_snapshot *snap,
                                                     struct sb_str name)
{
    const struct sb_certificate *found;

    if (!name.len || !sb_table_size(snap->snis))
        return NULL;
    if (name.len < NAME_LEN_MAX) {
        if ((found = find(snap, name)) || (found = find_suffix(snap, name)) ||
            (found = find_prefix(snap, name)))
            return found;
    }
    return find(snap, SB_STR("*"));
}

const struct sb_consumer_plugins *sb_snapshot_consumer_plugins(const struct sb_snapshot *snap,
                                                               struct sb_str consumer_id)
{
    return sb_table_find(snap->consumers, consumer_id);
}

const struct sb_upstream *sb_snapshot_upstream(const struct sb_snapshot *snap, struct sb_str name)
{
    return sb_table_find(snap->upstream_names, name);
}
