/* grpc_answer.h - our own answers, as a gRPC client understands them.
 *
 * A gRPC request is one over HTTP/2 whose Content-Type begins with application/grpc. Its errors
 * have no body but grpc-status and grpc-message headers beside the HTTP status (proxy-http.md 8;
 * the messages as Kong 3.9.1 has them: the text of what nginx would say or a plugin says, else the
 * status' name).
 */
#ifndef SB_DATAPLANE_HTTP_GRPC_ANSWER_H
#define SB_DATAPLANE_HTTP_GRPC_ANSWER_H

#include "dataplane/http/exchange.h"

bool sb_grpc_request(const struct sb_exchange *x);
/* Whether x->answer goes out as a status, without its body. */
bool sb_grpc_answers(const struct sb_exchange *x);
/* The headers of it. text: the default message of x->answer.status; "" for none. */
void sb_grpc_headers(struct sb_exchange *x, struct sb_str text, struct sb_gather *g);

#endif
