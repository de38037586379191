/* info.h - inside admin/: what both listeners say about the node. */
#ifndef SB_DATAPLANE_ADMIN_INFO_H
#define SB_DATAPLANE_ADMIN_INFO_H

#include "dataplane/admin/node.h"

void sb_admin_get_status(struct sb_call *c, const struct sb_endpoint *e);
void sb_admin_get_dns(struct sb_call *c, const struct sb_endpoint *e);

struct sb_str sb_admin_id(struct sb_call *c);
double sb_admin_resident_bytes(void);

/* Once a second, on the admin thread: a log level that was lent goes back. */
void sb_admin_tick(struct sb_admin_node *n);

#endif
