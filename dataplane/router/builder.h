/* builder.h - what a builder holds (within dataplane/router only). */
#ifndef SB_DATAPLANE_ROUTER_BUILDER_H
#define SB_DATAPLANE_ROUTER_BUILDER_H

#include "dataplane/router/lookup.h"
#include "shared/map.h"

struct sb_router_builder {
    enum sb_router_flavor flavor;
    struct sb_map rules; /* struct sb_rule */
    struct sb_tree_node *http, *stream;
    long path_users;                /* rules that read the path */
    long categories[SB_CATEGORIES]; /* HTTP rules by what they set */
};

#endif
