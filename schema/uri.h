/* uri.h - URLs and paths, taken apart and put in order as Kong does. */
#ifndef SB_SCHEMA_URI_H
#define SB_SCHEMA_URI_H

#include "shared/arena.h"
#include "shared/str.h"

/* Parts that are absent have p NULL. Nothing is checked or decoded. */
struct sb_url {
    struct sb_str scheme, userinfo, host, port, path, params, query, fragment;
    bool authority;
};

void sb_url_split(struct sb_str text, struct sb_url *out);

/* The normal form of a path: percent codes decoded but for reserved characters (those in upper
 * case), dot segments resolved, slashes merged. */
struct sb_str sb_path_normal(struct sb_arena *a, struct sb_str path);

/* The first '%' that is not followed by two hex digits, with up to two characters behind it; p
 * NULL: there is none. */
struct sb_str sb_path_bad_escape(struct sb_str path);

/* A path of format versions 1.1 and 2.1 as version 3.0 writes it: plain paths normalised, others as
 * regexes behind a '~'. */
struct sb_str sb_path_upgrade(struct sb_arena *a, struct sb_str path);

#endif
