/* watch_lines.c - a watch's stream cut into lines. Pieces come in any size: most often a whole
 * line, which is then handed on without a copy.
 */
#include "controlplane/kube/watch.h"

#include <stdlib.h>

#include "shared/buf.h"

enum { LINE_MAX_LEN = 8 << 20 };

struct sb_watch_lines {
    struct sb_buf rest; /* the start of a line whose end has not come */
    bool (*on_line)(void *arg, struct sb_str line);
    void *arg;
};

struct sb_watch_lines *sb_watch_lines_new(bool (*on_line)(void *arg, struct sb_str line), void *arg)
{
    struct sb_watch_lines *lines = sb_xcalloc(1, sizeof *lines);

    sb_buf_init(&lines->rest, LINE_MAX_LEN);
    lines->on_line = on_line;
    lines->arg = arg;
    return lines;
}

void sb_watch_lines_free(struct sb_watch_lines *lines)
{
    if (!lines)
        return;
    sb_buf_release(&lines->rest);
    free(lines);
}

static bool hand_on(struct sb_watch_lines *lines, struct sb_str line)
{
    line = sb_str_trim(line);
    return !line.len || lines->on_line(lines->arg, line);
}

bool sb_watch_lines_feed(struct sb_watch_lines *lines, struct sb_str bytes)
{
    while (bytes.len) {
        ptrdiff_t end = sb_str_chr(bytes, '\n', 0);
        struct sb_str line = end < 0 ? bytes : sb_str_first(bytes, (size_t)end);
        bool more;

        if (end < 0 || lines->rest.len) {
            sb_buf_str(&lines->rest, line);
            if (lines->rest.full)
                return false;
            line = sb_buf_get(&lines->rest);
        }
        if (end < 0)
            return true;
        more = hand_on(lines, line);
        sb_buf_clear(&lines->rest);
        if (!more)
            return false;
        bytes = sb_str_from(bytes, (size_t)end + 1);
    }
    return true;
}
