/* manifests.c - objects from files.
 *
 *   file ──> documents ──> objects ──> cache
 *    |                        ^
 *    '── keys of what it holds: an object goes when no file holds it any more
 *
 * inotify tells names; what they mean is looked up in the tree, so a missed detail costs nothing:
 *
 *   a regular file was closed after writing, moved in, moved out, deleted   it is read again
 *   anything else (a directory, a link such as Kubernetes' "..data", an     the tree is walked,
 * what overflowed queue)                                                       changed is read
 *
 * A file that is being written tells nothing until it is closed. An editor may move the old file
 * away before it writes the new one, so what vanished keeps what it held for a tenth of a second.
 *
 * (M1) A file with a document that cannot be read keeps what it held: an editor may be half-way
 *      through. Its good documents apply.
 * (M2) An object in two files belongs to the one read last; when that one lets go, the other is
 * read again.
 */
#include "controlplane/kube/manifests.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/kube/shape.h"
#include "shared/digest.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/uuid.h"
#include "shared/vec.h"
#include "shared/yaml.h"

enum {
    FILE_MAX = 256 << 20,
    DEPTH_MAX = 32,
    GRACE_MS = 100,
    ROOT_MS = 500, /* how often to look for a root that is missing */
    EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_DELETE_SELF |
             IN_MOVE_SELF,
};

/* What a file holds. */
struct file {
    char *path;
    struct timespec mtime;
    off_t size;
    ino_t inode;
    bool seen;     /* in the walk under way */
    bool vanished; /* is forgotten when it does not come back */
    struct sb_arena *keys_arena;
    struct sb_map keys; /* "Kind/ns/name" -> const struct sb_kind */
};

struct sb_manifests {
    char *root;
    const char *base; /* of a single file: its name */
    struct sb_objects *objects;
    bool is_dir, complete, root_missing;
    int broken;
    struct sb_map files;  /* by path */
    struct sb_map owners; /* "Kind/ns/name" (of the file's keys) -> struct file */
    int inotify_fd;
    struct event *readable, *grace;
    SB_VEC(struct dir *) by_wd;
    bool walk_needed;
};

struct dir {
    char *path;
    int wd;
};

/* -- documents ------------------------------------------------------------------------------------
 */

struct reading {
    struct sb_manifests *m;
    struct sb_arena *arena;
    struct file *file;
    const char *path;
    int document, line; /* of the document under way, from 1 */
    int broken;
    struct sb_arena *keys_arena;
    struct sb_map keys; /* what the file holds now */
};

static void complain(struct reading *r, const char *text)
{
    sb_error("%s: document %d (line %d): %s", r->path, r->document, r->line, text);
    r->broken++;
}

static struct sb_value *member_object(struct sb_arena *a, struct sb_value *object, const char *key)
{
    struct sb_value *v = sb_get(object, key);

    if (!sb_is(v, SB_V_OBJECT)) {
        v = sb_value_object(a);
        sb_object_set(a, object, sb_str_c(key), v);
    }
    return v;
}

static void add_uid(struct sb_arena *a, const struct sb_kind *kind, struct sb_value *metadata)
{
    static const struct sb_uuid root = {{0x5b, 0x1e, 0x0d, 0xc6, 0x3a, 0x4e, 0x4c, 0x8c, 0x9a, 0x55,
                                         0x6e, 0x2f, 0x77, 0x90, 0x31, 0x0b}};
    struct sb_str key = sb_arena_printf(a, "%s/%.*s/%.*s", kind->kind,
                                        SB_ARG(sb_value_str_at(metadata, "namespace")),
                                        SB_ARG(sb_value_str_at(metadata, "name")));
    struct sb_uuid uid = sb_uuid_v5(&root, key);
    char text[SB_UUID_TEXT_LEN + 1];

    sb_uuid_format(&uid, text);
    sb_object_set(a, metadata, SB_STR("uid"), sb_value_str(a, sb_arena_str(a, sb_str_c(text))));
}

static void add_string_data(struct sb_arena *a, struct sb_value *object)
{
    struct sb_value *strings = sb_get(object, "stringData"), *data;
    struct sb_member *m;

    if (!sb_is(strings, SB_V_OBJECT))
        return;
    data = member_object(a, object, "data");
    sb_object_each (m, strings) {
        if (sb_is(m->value, SB_V_STR))
            sb_object_set(a, data, m->key, sb_value_str(a, sb_base64_encode(a, m->value->s)));
    }
}

/* What an API server would have added. */
static void fill_in(struct sb_arena *a, const struct sb_kind *kind, struct sb_value *object)
{
    struct sb_value *metadata = sb_get(object, "metadata");

    if (kind->namespaced && !sb_value_str_at(metadata, "namespace").len)
        sb_object_set(a, metadata, SB_STR("namespace"), sb_value_text(a, "default"));
    if (!sb_value_str_at(metadata, "uid").len)
        add_uid(a, kind, metadata);
    add_string_data(a, object);
}

static void use_object(struct reading *r, struct sb_value *object)
{
    struct sb_str kind_name = sb_value_str_at(object, "kind");
    struct sb_str version = sb_value_str_at(object, "apiVersion");
    const struct sb_kind *kind;
    struct sb_str key;
    struct sb_err err;
    char text[512];

    if (!kind_name.len || !version.len) {
        complain(r, kind_name.len ? "apiVersion: missing" : "kind: missing");
        return;
    }
    kind = sb_kind_find(kind_name, version);
    if (!kind) { /* a Deployment beside its Ingress, say */
        sb_debug("%s: document %d: %.*s %.*s is not used", r->path, r->document, SB_ARG(version),
                 SB_ARG(kind_name));
        return;
    }
    if (!sb_object_name(object).len) {
        snprintf(text, sizeof text, "%s: metadata.name: missing", kind->kind);
        complain(r, text);
        return;
    }
    if (sb_shape_check(kind, object, &err)) {
        key = sb_object_ns(object).len ? sb_object_ns(object) : SB_STR("default");
        sb_err_at(&err, "%s %.*s/%.*s", kind->kind, SB_ARG(key), SB_ARG(sb_object_name(object)));
        complain(r, err.text);
        return;
    }
    if (!r->m->complete)
        fill_in(r->arena, kind, object);
    sb_objects_put(r->m->objects, kind, object);
    key = sb_arena_printf(r->keys_arena, "%s/%.*s/%.*s", kind->kind, SB_ARG(sb_object_ns(object)),
                          SB_ARG(sb_object_name(object)));
    sb_map_set(&r->keys, key, (void *)kind);
}

static void use_document(struct reading *r, struct sb_value *doc)
{
    struct sb_value *item;

    if (sb_is_nil(doc))
        return;
    if (!sb_is(doc, SB_V_OBJECT)) {
        complain(r, "is not an object");
    } else if (sb_is(sb_get(doc, "items"), SB_V_ARRAY) &&
               sb_str_ends(sb_value_str_at(doc, "kind"), SB_STR("List"))) {
        sb_array_each (item, sb_get(doc, "items"))
            use_object(r, item);
    } else {
        use_object(r, doc);
    }
}

/* A line that starts a document: "---", alone or followed by a blank. */
static bool is_marker(struct sb_str line)
{
    return sb_str_starts(line, SB_STR("---")) &&
           (line.len == 3 || line.p[3] == ' ' || line.p[3] == '\t' || line.p[3] == '\r');
}

/* Nothing but comments, directives and blank lines. */
static bool is_blank(struct sb_str text)
{
    struct sb_str line;

    while (sb_str_split(&text, '\n', &line)) {
        line = sb_str_trim(line);
        if (line.len && line.p[0] != '#' && line.p[0] != '%')
            return false;
    }
    return true;
}

/* The error of a document, with lines counted from the top of the file: so many lines are put
 * before it and it is read once more. */
static void complain_yaml(struct reading *r, struct sb_str text)
{
    struct sb_buf padded;
    struct sb_value *doc;
    struct sb_err err = {0};

    sb_buf_init(&padded, 0);
    for (int i = 1; i < r->line; i++)
        sb_buf_char(&padded, '\n');
    sb_buf_str(&padded, text);
    if (sb_yaml_parse(r->arena, sb_buf_get(&padded), &doc, &err))
        complain(r, err.text);
    sb_buf_release(&padded);
}

static void use_yaml_document(struct reading *r, struct sb_str text)
{
    struct sb_value *doc;

    if (is_blank(text))
        return;
    r->document++;
    if (sb_yaml_parse(r->arena, text, &doc, NULL))
        complain_yaml(r, text);
    else
        use_document(r, doc);
}

/* One document after the other, so that a broken one does not hide the rest. */
static void use_yaml(struct reading *r, struct sb_str text)
{
    size_t start = 0, at = 0;
    int line = 1;

    r->line = 1;
    while (at < text.len) {
        ptrdiff_t end = sb_str_chr(text, '\n', at);
        size_t next = end < 0 ? text.len : (size_t)end + 1;

        if (is_marker(sb_str_n(text.p + at, (end < 0 ? text.len : (size_t)end) - at))) {
            use_yaml_document(r, sb_str_n(text.p + start, at - start));
            start = at + 3;
            r->line = line;
        }
        at = next;
        line++;
    }
    use_yaml_document(r, sb_str_from(text, start));
}

static void use_json(struct reading *r, struct sb_str text)
{
    struct sb_value *doc;
    struct sb_err err;

    r->document = r->line = 1;
    if (sb_json_parse(r->arena, text, &doc, &err))
        complain(r, err.text);
    else
        use_document(r, doc);
}

/* -- files ----------------------------------------------------------------------------------------
 */

static struct file *file_get(struct sb_manifests *m, const char *path)
{
    struct file *f = sb_map_get(&m->files, sb_str_c(path));

    if (!f) {
        f = sb_xcalloc(1, sizeof *f);
        f->path = sb_xcalloc(1, strlen(path) + 1);
        memcpy(f->path, path, strlen(path));
        sb_map_set(&m->files, sb_str_c(f->path), f);
    }
    return f;
}

static void file_free(struct file *f)
{
    sb_map_release(&f->keys);
    sb_arena_free(f->keys_arena);
    free(f->path);
    free(f);
}

static void remove_object(struct sb_manifests *m, const struct sb_kind *kind, struct sb_str key)
{
    struct sb_str ns, name, rest = key;

    sb_str_split(&rest, '/', &name); /* the kind */
    sb_str_split(&rest, '/', &ns);
    sb_objects_remove(m->objects, kind, ns, rest);
}

static void look_again(struct sb_manifests *m, int ms)
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};

    if (m->grace)
        event_add(m->grace, &tv);
}

/* Editors move a file away and write a new one: what is gone only counts after a moment. */
static void vanished(struct sb_manifests *m, struct file *f)
{
    f->vanished = true;
    look_again(m, GRACE_MS);
}

static void read_file(struct sb_manifests *m, struct file *f);

/* f holds the object no more: another file that does gets it, else it goes. */
static void let_go(struct sb_manifests *m, struct file *f, struct sb_str key,
                   const struct sb_kind *kind)
{
    struct sb_map_slot *slot;

    if (sb_map_get(&m->owners, key) != f)
        return;
    sb_map_remove(&m->owners, key);
    sb_map_each (slot, &m->files) {
        struct file *other = slot->value;

        if (other == f || !sb_map_get(&other->keys, key))
            continue;
        read_file(m, other);
        if (sb_map_get(&m->owners, key))
            return;
    }
    remove_object(m, kind, key);
}

/* The file's new keys replace the old; a broken file adds to them (M1). */
static void take_keys(struct sb_manifests *m, struct file *f, struct reading *r)
{
    struct sb_map old = f->keys;
    struct sb_arena *old_arena = f->keys_arena;
    struct sb_map_slot *slot;

    if (r->broken) {
        sb_map_each (slot, &old) {
            if (!sb_map_get(&r->keys, slot->key))
                sb_map_set(&r->keys, sb_arena_str(r->keys_arena, slot->key), slot->value);
        }
    }
    f->keys = r->keys;
    f->keys_arena = r->keys_arena;
    sb_map_each (slot, &f->keys) {
        struct file *owner = sb_map_set(&m->owners, slot->key, f);

        if (owner && owner != f)
            sb_warn("%.*s is in %s and in %s: the latter is used", SB_ARG(slot->key), owner->path,
                    f->path);
    }
    sb_map_each (slot, &old) {
        if (!sb_map_get(&f->keys, slot->key))
            let_go(m, f, slot->key, slot->value);
    }
    sb_map_release(&old);
    sb_arena_free(old_arena);
}

static bool is_json(const char *path)
{
    return sb_str_ends(sb_str_c(path), SB_STR(".json"));
}

static void read_file(struct sb_manifests *m, struct file *f)
{
    struct reading r = {.m = m, .file = f, .path = f->path, .line = 1};
    struct sb_buf text;

    sb_buf_init(&text, FILE_MAX);
    if (!sb_buf_read_file(&text, f->path)) {
        if (errno == ENOENT && m->grace)
            vanished(m, f);
        else
            sb_error("%s: cannot be read: %s", f->path, strerror(errno));
        m->broken++;
        sb_buf_release(&text);
        return;
    }
    r.arena = sb_arena_new(64 << 10);
    r.keys_arena = sb_arena_new(256);
    if (is_json(f->path))
        use_json(&r, sb_buf_get(&text));
    else
        use_yaml(&r, sb_buf_get(&text));
    m->broken += r.broken;
    take_keys(m, f, &r);
    sb_arena_free(r.arena);
    sb_buf_release(&text);
}

static void forget_file(struct sb_manifests *m, struct file *f)
{
    struct sb_map keys = f->keys;
    struct sb_map_slot *slot;

    sb_map_remove(&m->files, sb_str_c(f->path));
    f->keys = (struct sb_map){0};
    sb_map_each (slot, &keys)
        let_go(m, f, slot->key, slot->value);
    sb_map_release(&keys);
    file_free(f);
}

static bool is_manifest(const char *name)
{
    struct sb_str s = sb_str_c(name);

    return name[0] != '.' && (sb_str_ends(s, SB_STR(".yaml")) || sb_str_ends(s, SB_STR(".yml")) ||
                              sb_str_ends(s, SB_STR(".json")));
}

static void visit_file(struct sb_manifests *m, const char *path, const struct stat *st, bool force)
{
    struct file *f = file_get(m, path);
    bool same = f->inode == st->st_ino && f->size == st->st_size &&
                f->mtime.tv_sec == st->st_mtim.tv_sec && f->mtime.tv_nsec == st->st_mtim.tv_nsec;

    f->seen = true;
    if (same && !force)
        return;
    f->inode = st->st_ino;
    f->size = st->st_size;
    f->mtime = st->st_mtim;
    read_file(m, f);
}

/* -- the tree -------------------------------------------------------------------------------------
 */

static struct dir *dir_of(struct sb_manifests *m, int wd)
{
    struct dir **d;

    sb_vec_each (d, &m->by_wd) {
        if ((*d)->wd == wd)
            return *d;
    }
    return NULL;
}

static void forget_dir(struct sb_manifests *m, struct dir *dir)
{
    for (size_t i = 0; i < m->by_wd.len; i++) {
        if (m->by_wd.p[i] == dir)
            m->by_wd.p[i--] = m->by_wd.p[--m->by_wd.len];
    }
    free(dir->path);
    free(dir);
}

/* The kernel knows directories by inode: one that was moved comes back under its old number, and
 * gets its new path here. */
static void watch_dir(struct sb_manifests *m, const char *path)
{
    struct dir *dir;
    int wd;

    if (m->inotify_fd < 0)
        return;
    wd = inotify_add_watch(m->inotify_fd, path, EVENTS | IN_ONLYDIR);
    if (wd < 0) {
        sb_error("%s: changes cannot be followed: %s%s", path, strerror(errno),
                 errno == ENOSPC ? " (raise fs.inotify.max_user_watches)" : "");
        return;
    }
    dir = dir_of(m, wd);
    if (dir && !strcmp(dir->path, path))
        return;
    if (dir)
        forget_dir(m, dir);
    dir = sb_xcalloc(1, sizeof *dir);
    dir->path = sb_xcalloc(1, strlen(path) + 1);
    memcpy(dir->path, path, strlen(path));
    dir->wd = wd;
    sb_vec_push(&m->by_wd, dir);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_entry(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* In order of names, so that every start reads alike. The watch comes first, so that nothing slips
 * between. */
static void walk(struct sb_manifests *m, const char *path, int depth)
{
    struct dirent **entries = NULL;
    int n;

    watch_dir(m, path);
    n = scandir(path, &entries, is_entry, by_name);
    for (int i = 0; i < n; i++) {
        size_t len = strlen(path) + strlen(entries[i]->d_name) + 2;
        char *child = sb_xmalloc(len);
        struct stat st;

        snprintf(child, len, "%s/%s", path, entries[i]->d_name);
        if (!stat(child, &st)) {
            if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
                walk(m, child, depth + 1);
            else if (S_ISREG(st.st_mode) && is_manifest(entries[i]->d_name))
                visit_file(m, child, &st, false);
        }
        free(child);
        free(entries[i]);
    }
    free(entries);
}

static void judge_unseen(struct sb_manifests *m)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &m->files) {
        struct file *file = slot->value;

        if (!file->seen)
            vanished(m, file);
        file->seen = false;
    }
}

/* A volume that went away with everything on it says nothing about the objects: they stay. */
static bool root_is_there(struct sb_manifests *m, struct stat *st)
{
    bool there = !stat(m->root, st);

    if (!there && !m->root_missing)
        sb_error("%s: %s; what it held stays", m->root, strerror(errno));
    m->root_missing = !there;
    return there;
}

static void walk_all(struct sb_manifests *m)
{
    struct stat st;

    m->walk_needed = false;
    if (!root_is_there(m, &st)) {
        look_again(m, ROOT_MS);
        return;
    }
    if (S_ISDIR(st.st_mode))
        walk(m, m->root, 0);
    else
        visit_file(m, m->root, &st, false);
    judge_unseen(m);
}

/* -- following ------------------------------------------------------------------------------------
 */

static void on_file(struct sb_manifests *m, const char *path, const char *name, uint32_t mask)
{
    struct file *known = sb_map_get(&m->files, sb_str_c(path));
    struct stat st;

    if (lstat(path, &st)) {
        if (known)
            vanished(m, known);
        else
            m->walk_needed |= !is_manifest(name); /* a link to a directory, perhaps */
    } else if (!S_ISREG(st.st_mode)) {
        m->walk_needed = true;
    } else if (mask & IN_CREATE && st.st_nlink == 1) {
        return; /* tells again when it is closed */
    } else if (is_manifest(name) || !m->is_dir) {
        visit_file(m, path, &st, true);
    }
}

static void on_event(struct sb_manifests *m, const struct inotify_event *e)
{
    struct dir *dir = dir_of(m, e->wd);
    char *path;
    size_t len;

    if (e->mask & IN_IGNORED) {
        if (dir)
            forget_dir(m, dir);
        return;
    }
    if (!dir || !e->len || e->mask & (IN_Q_OVERFLOW | IN_ISDIR | IN_DELETE_SELF | IN_MOVE_SELF)) {
        if (dir && e->mask & IN_MOVE_SELF)
            inotify_rm_watch(m->inotify_fd, e->wd);
        m->walk_needed = true;
        return;
    }
    if (!m->is_dir) {
        if (!strcmp(e->name, m->base))
            on_file(m, m->root, e->name, e->mask);
        return;
    }
    len = strlen(dir->path) + strlen(e->name) + 2;
    path = sb_xmalloc(len);
    snprintf(path, len, "%s/%s", dir->path, e->name);
    on_file(m, path, e->name, e->mask);
    free(path);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct sb_manifests *m = arg;
    _Alignas(struct inotify_event) char events[64 << 10];
    ssize_t n;

    (void)what;
    while ((n = read(fd, events, sizeof events)) > 0) {
        for (char *p = events; p < events + n;) {
            struct inotify_event *e = (struct inotify_event *)p;

            on_event(m, e);
            p += sizeof *e + e->len;
        }
    }
    if (m->walk_needed)
        walk_all(m);
}

static bool is_gone(const struct file *f)
{
    return f->vanished && access(f->path, F_OK) && (errno == ENOENT || errno == ENOTDIR);
}

/* Files that did not come back are gone. */
static void forget_vanished(struct sb_manifests *m)
{
    SB_VEC(struct file *) gone = {0};
    struct sb_map_slot *slot;
    struct file **f;

    sb_map_each (slot, &m->files) {
        struct file *file = slot->value;

        if (is_gone(file))
            sb_vec_push(&gone, file);
        file->vanished = false;
    }
    sb_vec_each (f, &gone)
        forget_file(m, *f);
    sb_vec_release(&gone);
}

static void on_grace_over(evutil_socket_t fd, short what, void *arg)
{
    struct sb_manifests *m = arg;
    bool was_missing = m->root_missing;
    struct stat st;

    (void)fd, (void)what;
    if (!root_is_there(m, &st))
        look_again(m, ROOT_MS);
    else if (was_missing)
        walk_all(m);
    else
        forget_vanished(m);
}

/* -- from outside ---------------------------------------------------------------------------------
 */

static enum sb_rc manifests_new(const char *path, struct sb_objects *objects,
                                struct sb_manifests **out, struct sb_err *err)
{
    struct sb_str root = sb_str_c(path);
    struct sb_manifests *m;
    struct stat st;

    if (stat(path, &st) || access(path, R_OK))
        return sb_err_set(err, SB_IO, "manifests %s: cannot be read: %s", path, strerror(errno));
    while (root.len > 1 && root.p[root.len - 1] == '/')
        root.len--;
    m = sb_xcalloc(1, sizeof *m);
    m->root = sb_xcalloc(1, root.len + 1);
    memcpy(m->root, root.p, root.len);
    m->base = strrchr(m->root, '/') ? strrchr(m->root, '/') + 1 : m->root;
    m->is_dir = S_ISDIR(st.st_mode);
    m->objects = objects;
    m->inotify_fd = -1;
    *out = m;
    return SB_OK;
}

void sb_manifests_stop(struct sb_manifests *m)
{
    struct sb_map_slot *slot;

    if (!m)
        return;
    if (m->inotify_fd >= 0) {
        event_free(m->readable);
        event_free(m->grace);
        close(m->inotify_fd);
    }
    sb_map_each (slot, &m->files)
        file_free(slot->value);
    sb_map_release(&m->files);
    sb_map_release(&m->owners);
    while (m->by_wd.len)
        forget_dir(m, m->by_wd.p[0]);
    sb_vec_release(&m->by_wd);
    free(m->root);
    free(m);
}

enum sb_rc sb_manifests_load(const char *path, bool complete, struct sb_objects *objects,
                             int *broken, struct sb_err *err)
{
    struct sb_manifests *m;
    enum sb_rc rc = manifests_new(path, objects, &m, err);

    if (rc)
        return rc;
    m->complete = complete;
    walk_all(m);
    *broken = m->broken;
    sb_manifests_stop(m);
    return SB_OK;
}

/* A single file is followed through its directory: editors replace it. */
static void watch_parent(struct sb_manifests *m)
{
    size_t len = (size_t)(m->base - m->root);
    char *parent = sb_xcalloc(1, len + 2);

    memcpy(parent, len ? m->root : ".", len ? len : 1);
    watch_dir(m, parent);
    free(parent);
}

enum sb_rc sb_manifests_start(struct event_base *base, const char *path, struct sb_objects *objects,
                              struct sb_manifests **out, struct sb_err *err)
{
    struct sb_manifests *m;
    enum sb_rc rc = manifests_new(path, objects, &m, err);

    if (rc)
        return rc;
    m->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (m->inotify_fd < 0) {
        sb_manifests_stop(m);
        return sb_err_set(err, SB_IO, "inotify: %s", strerror(errno));
    }
    m->readable = event_new(base, m->inotify_fd, EV_READ | EV_PERSIST, on_readable, m);
    m->grace = event_new(base, -1, 0, on_grace_over, m);
    event_add(m->readable, NULL);
    if (!m->is_dir)
        watch_parent(m);
    walk_all(m);
    *out = m;
    return SB_OK;
}
