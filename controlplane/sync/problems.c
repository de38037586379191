/* problems.c - see problems.h. */
#include "controlplane/sync/problems.h"

#include <stdlib.h>

#include "shared/arena.h"
#include "shared/map.h"

struct gathered {
    struct sb_arena *arena;
    struct sb_map said;   /* "object\nmessage" */
    struct sb_map broken; /* "object" */
};

struct sb_problems {
    sb_on_problem *tell;
    void *arg;
    struct gathered last, now;
};

static void gathered_release(struct gathered *g)
{
    sb_map_release(&g->said);
    sb_map_release(&g->broken);
    sb_arena_free(g->arena);
    *g = (struct gathered){0};
}

struct sb_problems *sb_problems_new(sb_on_problem *tell, void *arg)
{
    struct sb_problems *p = sb_xcalloc(1, sizeof *p);

    p->tell = tell;
    p->arg = arg;
    return p;
}

void sb_problems_free(struct sb_problems *p)
{
    if (!p)
        return;
    gathered_release(&p->last);
    gathered_release(&p->now);
    free(p);
}

void sb_problems_begin(struct sb_problems *p)
{
    gathered_release(&p->now);
    p->now.arena = sb_arena_new(0);
}

void sb_problems_add(struct sb_problems *p, struct sb_str object, struct sb_str message,
                     bool refused)
{
    struct sb_arena *a = p->now.arena;
    struct sb_str key = sb_arena_printf(a, "%.*s\n%.*s", SB_ARG(object), SB_ARG(message));

    sb_map_set(&p->now.broken, sb_arena_str(a, object), p);
    if (!sb_map_set(&p->now.said, key, p) && !sb_map_get(&p->last.said, key))
        p->tell(p->arg, object, message, refused);
}

void sb_problems_end(struct sb_problems *p)
{
    gathered_release(&p->last);
    p->last = p->now;
    p->now = (struct gathered){0};
}

void sb_problems_forget(struct sb_problems *p)
{
    gathered_release(&p->last);
}

bool sb_problems_has(const struct sb_problems *p, struct sb_str object)
{
    return sb_map_get(&p->last.broken, object) != NULL;
}

size_t sb_problems_objects(const struct sb_problems *p)
{
    return p->last.broken.count;
}
