#include "dataplane/admin/admin.h"

#include <stdlib.h>

#include "dataplane/admin/info.h"
#include "dataplane/admin/serve.h"

enum { BODY_MAX = 10 << 20, STATUS_BODY_MAX = 64 << 10 };

struct sb_admin {
    struct sb_arena *arena; /* endpoints */
    atomic_bool draining;
    struct sb_admin_node admin, status;
    struct sb_serve *serve_admin, *serve_status;
};

static void fill(struct sb_admin *admin, struct sb_admin_node *n,
                 const struct sb_admin_parts *parts)
{
    const char *database = sb_settings_str(parts->settings, "database");

    n->parts = *parts;
    n->draining = &admin->draining;
    n->dbless = database && strcmp(database, "off") == 0;
}

static enum sb_rc serve_admin(struct sb_admin *admin, struct sb_err *err)
{
    const struct sb_settings *s = admin->admin.parts.settings;
    int64_t body_max = sb_settings_size(s, "nginx_admin_client_max_body_size", BODY_MAX);
    struct sb_serve_config config = {
        .settings = s,
        .listen = "admin_listen",
        .tls = "admin_ssl",
        .access_log = "admin_access_log",
        .body_max = body_max > 0 ? (size_t)body_max : SIZE_MAX / 2,
        .answer = sb_admin_answer,
        .tick = sb_admin_tick,
        .close = sb_admin_close,
        .node = &admin->admin,
        .credentials = true,
    };

    admin->admin.endpoints = sb_entity_endpoints(admin->arena, &admin->admin);
    return sb_serve_start(&config, &admin->serve_admin, err);
}

static enum sb_rc serve_status(struct sb_admin *admin, struct sb_err *err)
{
    struct sb_serve_config config = {
        .settings = admin->status.parts.settings,
        .listen = "status_listen",
        .tls = "status_ssl",
        .access_log = "status_access_log",
        .body_max = STATUS_BODY_MAX,
        .answer = sb_admin_answer,
        .close = sb_admin_close,
        .node = &admin->status,
    };

    admin->status.endpoints = sb_status_listener_endpoints(admin->arena, &admin->status);
    return sb_serve_start(&config, &admin->serve_status, err);
}

enum sb_rc sb_admin_start(const struct sb_admin_parts *parts, struct sb_admin **out,
                          struct sb_err *err)
{
    struct sb_admin *admin = sb_xcalloc(1, sizeof *admin);
    enum sb_rc rc;

    admin->arena = sb_arena_new(0);
    fill(admin, &admin->admin, parts);
    fill(admin, &admin->status, parts);
    rc = serve_status(admin, err);
    if (!rc)
        rc = serve_admin(admin, err);
    if (rc) {
        sb_admin_stop(admin, false);
        return rc;
    }
    *out = admin;
    return SB_OK;
}

void sb_admin_open(struct sb_admin *admin)
{
    sb_serve_open(admin->serve_status);
    sb_serve_open(admin->serve_admin);
}

void sb_admin_reopen_logs(struct sb_admin *admin)
{
    sb_serve_reopen_log(admin->serve_admin);
    sb_serve_reopen_log(admin->serve_status);
}

void sb_admin_drain(struct sb_admin *admin)
{
    atomic_store(&admin->draining, true);
}

void sb_admin_stop(struct sb_admin *admin, bool gently)
{
    if (!admin)
        return;
    sb_serve_stop(admin->serve_admin, gently);
    sb_serve_stop(admin->serve_status, gently);
    sb_arena_free(admin->arena);
    free(admin);
}
