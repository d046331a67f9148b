/* tls_internal.h - what servers and channels ask of a struct rt_tls. Private to rpc. */
#ifndef RT_RPC_TLS_INTERNAL_H
#define RT_RPC_TLS_INTERNAL_H

#include <grpc/grpc_security.h>

#include "tls.h"

/* Of one server; it fetches what is in use now at each handshake. The caller releases them. */
grpc_server_credentials *rpc_tls_server_credentials(struct rt_tls *tls);
/* Of connections made from now on; what is in use later needs others. The caller releases them. */
grpc_channel_credentials *rpc_tls_channel_credentials(struct rt_tls *tls);

#endif
