/* interop_service.h - grpc.testing.TestService on our runtime. */
#ifndef INTEROP_SERVICE_H
#define INTEROP_SERVICE_H

#include <interop.pb-c.h>

#include "rpc/rpc.h"

struct interop_service {
	Grpc__Testing__TestService_Service base;
	struct rt_loop *loop;
	/* For tests: calls that ended because they were cancelled. */
	int cancelled;
};
/* Serve `(ProtobufCService *)&service->base`. */
void interop_service_init(struct interop_service *service, struct rt_loop *loop);

#endif
