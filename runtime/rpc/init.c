/* init.c - start and end of gRPC in this process. */
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <signal.h>

#include "interpose/interpose.h"
#include "rpc.h"

static void log_for_grpc(gpr_log_func_args *args)
{
	enum rt_log_level level = args->severity == GPR_LOG_SEVERITY_ERROR ? RT_WARN : RT_DEBUG;

	RT_LOG(level, "gRPC says", RT_S("text", args->message), RT_S("file", args->file),
	       RT_I("line", args->line));
}

void rt_rpc_init(void)
{
	/* A peer that went shows as an error of the write. */
	signal(SIGPIPE, SIG_IGN);
	gpr_set_log_function(log_for_grpc);
	/* gRPC would poll for its clients' sake from a thread of its own now and then, and leave
	 * us what it took and did not work off. The loop polls often enough. */
	(void)setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "0", 1);
	rt_polling_init();
}

void rt_rpc_shutdown(void)
{
	/* The other one goes on in a thread of its own, past the end of main. */
	grpc_shutdown_blocking();
}
