/* manifests.h - the same objects from files: a directory (with all below it) or one file.
 *
 * *.yaml, *.yml and *.json are read, several documents and Lists included. Changes are followed by
 * inotify and applied once the file stands still for the loop: a rename over the old file, a
 * truncate and write, a new directory full of files are one change each. Documents that cannot be
 * used are reported with file, document and line; the others of the file apply, and what such a
 * document held before stays, for an editor may be half-way through a save.
 *
 * What an API server would add is added: the namespace "default", a uid (made from kind, namespace
 * and name, so that it is stable), a Secret's stringData in its data.
 */
#ifndef SB_CONTROLPLANE_KUBE_MANIFESTS_H
#define SB_CONTROLPLANE_KUBE_MANIFESTS_H

#include "controlplane/kube/objects.h"
#include "shared/err.h"

struct event_base;
struct sb_manifests;

/* Reads everything there is and then follows it. Only a path that cannot be read at all is an
 * error; what is wrong in a file goes to the log. */
SB_MUST enum sb_rc sb_manifests_start(struct event_base *base, const char *path,
                                      struct sb_objects *objects, struct sb_manifests **out,
                                      struct sb_err *err);
void sb_manifests_stop(struct sb_manifests *manifests);

/* Reads once, without following. complete: objects as they are, with nothing made up (the golden
 * cases hold objects without uid on purpose). Returns how many documents could not be used. */
SB_MUST enum sb_rc sb_manifests_load(const char *path, bool complete, struct sb_objects *objects,
                                     int *broken, struct sb_err *err);

#endif
