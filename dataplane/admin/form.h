/* form.h - inside admin/: from form fields to values, as Kong reads them (admin-api.md 2, forms).
 *
 *   service.name=a  hosts[]=x&hosts[]=y  paths[1]=/p  headers[x-a]=1  tags=t
 *
 * First the names make a tree (sb_form_tree), then the field table says what the texts mean
 * (sb_form_read): numbers, booleans, null for "", one-element lists for lone values.
 */
#ifndef SB_DATAPLANE_ADMIN_FORM_H
#define SB_DATAPLANE_ADMIN_FORM_H

#include "dataplane/admin/call.h"

struct sb_value *sb_form_tree(struct sb_arena *a, const struct sb_arg *args, size_t n);

/* multipart/form-data: each part a field, its content as it is. *ok false: too many. */
bool sb_form_multipart(struct sb_arena *a, struct sb_str content_type, struct sb_str body,
                       struct sb_arg **out, size_t *n);

/* Reads the texts of a tree by an entity's fields; returns the tree, changed. */
struct sb_value *sb_form_read(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                              struct sb_value *tree);

#endif
