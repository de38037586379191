/* command.c - `translate`: what a directory of manifests means to Kong, on standard output. */
#include <stdio.h>
#include <stdlib.h>

#include "controlplane/kube/manifests.h"
#include "controlplane/translate/fields.h"
#include "controlplane/translate/translate.h"
#include "shared/cli.h"
#include "shared/yaml.h"

struct options {
    const char *manifests, *settings, *failures;
};

static const struct sb_cli_flag flags[] = {
    {"manifests", 'm', SB_CLI_TEXT, offsetof(struct options, manifests), "PATH",
     "a file or directory of Kubernetes objects"},
    {"settings", 's', SB_CLI_TEXT, offsetof(struct options, settings), "FILE",
     "feature_flags and options, as YAML"},
    {"failures", 'f', SB_CLI_TEXT, offsetof(struct options, failures), "FILE",
     "where to write what could not be translated"},
    {0},
};

static enum sb_rc read_settings(const char *path, struct sb_arena *arena,
                                struct sb_translate_settings *settings, struct sb_err *err)
{
    struct sb_buf text;
    struct sb_value *doc;
    enum sb_rc rc;

    sb_translate_settings_init(settings);
    if (!path)
        return SB_OK;
    sb_buf_init(&text, 1 << 20);
    if (!sb_buf_read_file(&text, path))
        rc = sb_err_set(err, SB_IO, "cannot be read");
    else
        rc = sb_yaml_parse(arena, sb_buf_get(&text), &doc, err);
    if (!rc)
        rc = sb_translate_settings_read(settings, arena, doc, err);
    if (rc)
        sb_err_at(err, "%s", path);
    sb_buf_release(&text);
    return rc;
}

static enum sb_rc write_yaml(FILE *file, const struct sb_value *v, struct sb_err *err)
{
    struct sb_buf text;
    enum sb_rc rc = SB_OK;

    sb_buf_init(&text, 0);
    sb_yaml_write(&text, v);
    if (fwrite(text.p, 1, text.len, file) != text.len || fflush(file))
        rc = sb_err_set(err, SB_IO, "cannot write: %m");
    sb_buf_release(&text);
    return rc;
}

static struct sb_value *failures_value(const struct sb_translator *t, struct sb_arena *arena)
{
    const struct sb_translate_failure *failures;
    size_t n = sb_translator_failures(t, arena, &failures);
    struct sb_value *list = sb_value_array(arena), *item;

    for (size_t i = 0; i < n; i++) {
        item = sb_value_object(arena);
        set_str(arena, item, "object", failures[i].object);
        set_str(arena, item, "message", failures[i].message);
        sb_array_push(arena, list, item);
    }
    return list;
}

static enum sb_rc write_failures(const char *path, const struct sb_value *failures,
                                 struct sb_err *err)
{
    FILE *file = fopen(path, "w");
    enum sb_rc rc;

    if (!file)
        return sb_err_set(err, SB_IO, "%s: %m", path);
    rc = write_yaml(file, failures, err);
    if (fclose(file) && !rc)
        rc = sb_err_set(err, SB_IO, "%s: %m", path);
    return rc;
}

static enum sb_rc translate(const struct options *o, struct sb_arena *arena, struct sb_err *err)
{
    struct sb_translate_settings settings;
    struct sb_objects *objects = sb_objects_new();
    struct sb_translator *t = NULL;
    const struct sb_translated *changes;
    int broken = 0;
    enum sb_rc rc = read_settings(o->settings, arena, &settings, err);

    if (!rc)
        rc = sb_manifests_load(o->manifests, true, objects, &broken, err);
    if (!rc) {
        t = sb_translator_new(&settings, objects);
        sb_translator_run(t, &changes);
        rc = write_yaml(stdout, sb_translator_document(t, arena), err);
    }
    if (!rc && o->failures)
        rc = write_failures(o->failures, failures_value(t, arena), err);
    sb_translator_free(t);
    sb_objects_free(objects);
    return rc;
}

int sb_translate_command(int argc, char **argv)
{
    struct options o = {0};
    struct sb_err err;
    struct sb_arena *arena;
    bool help = false;
    int left = sb_cli_parse(argc, argv, flags, &o, &help);

    if (left == 1 && (help || !o.manifests)) {
        fprintf(stderr, "Usage: silverback-controlplane translate --manifests PATH [OPTIONS]\n\n");
        sb_cli_print_flags(flags);
        return help ? 0 : 1;
    }
    if (left != 1)
        return 1;
    arena = sb_arena_new(0);
    if (translate(&o, arena, &err)) {
        fprintf(stderr, "Error: %s\n", err.text);
        sb_arena_free(arena);
        return 1;
    }
    sb_arena_free(arena);
    return 0;
}
