#include "dataplane/config/node.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "shared/buf.h"
#include "shared/log.h"

/* True: the file holds an id. */
static bool read_id(const char *path, struct sb_uuid *out)
{
    struct sb_buf text;
    bool ok;

    sb_buf_init(&text, 4096);
    ok = sb_buf_read_file(&text, path);
    if (ok && !sb_uuid_parse(sb_str_trim(sb_buf_get(&text)), out)) {
        sb_warn("%s holds no node id; writing a new one", path);
        ok = false;
    }
    sb_buf_release(&text);
    return ok;
}

static enum sb_rc write_id(const char *path, const struct sb_uuid *id, struct sb_err *err)
{
    char text[SB_UUID_TEXT_LEN + 1];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok;

    sb_uuid_format(id, text);
    ok = fd >= 0 && write(fd, text, SB_UUID_TEXT_LEN) == SB_UUID_TEXT_LEN;
    if (!ok)
        sb_err_set(err, SB_IO, "the node id can't be kept in %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok ? SB_OK : SB_IO;
}

enum sb_rc sb_node_id(const struct sb_settings *settings, struct sb_uuid *out, struct sb_err *err)
{
    const char *given = sb_settings_str(settings, "node_id");
    struct sb_arena *a;
    const char *path;
    enum sb_rc rc = SB_OK;

    if (given)
        return sb_uuid_parse(sb_str_c(given), out)
                   ? SB_OK
                   : sb_err_set(err, SB_INVALID, "node_id is not a UUID: '%s'", given);
    a = sb_arena_new(0);
    path = sb_settings_path(settings, a, "kong.id").p;
    if (!read_id(path, out)) {
        *out = sb_uuid_v4();
        rc = write_id(path, out, err);
    }
    sb_arena_free(a);
    return rc;
}
