/* auth_try.c - tandemctl auth try: does the gateway take this caller as an operator? Asked by the one method that
 * operators alone may call, reflection; and once more with a token that nobody has: a gateway that takes that, too, asks
 * nobody who it is. */
#include <grpc/reflection/v1/reflection.pb-c.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"

#define NOBODYS_TOKEN "a-token-that-nobody-has"

typedef Grpc__Reflection__V1__ServerReflectionRequest request_message;

struct attempt {
	struct rt_client_op op;
	struct rt_loop *loop;
	int code;
	char *message;
};

static void attempt_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	(void)op, (void)message; /* that it is answered is enough */
}

static void attempt_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct attempt *attempt = RT_CONTAINER_OF(op, struct attempt, op);

	(void)response;
	attempt->code = op->status.code;
	attempt->message = rt_strdup(op->status.message == NULL ? "" : op->status.message);
	rt_loop_stop(attempt->loop);
}

static void stop(void *loop)
{
	rt_loop_stop(loop);
}

/* Calls with the caller's own token, or with `token`. Returns the status; *ret_message is freed by the caller. */
static int try_once(struct ctl *ctl, const char *token, char **ret_message)
{
	struct rt_channel_options options = { 0 };
	char *target = ctl_target(ctl->gateway), everything[] = "";
	request_message request = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
	struct attempt attempt = {
		.op = { .timeout_ms = ctl->timeout_ms,
			.on_message = attempt_message,
			.done = attempt_done },
		.loop = ctl_loop(ctl),
	};
	ProtobufCService *reflection;
	struct rt_channel *channel;
	struct rt_tls *tls;

	ctl_secure(ctl, attempt.loop, target, &options, &tls);
	if (token != NULL)
		options.token = token;
	if (rt_channel_new(attempt.loop, target, &options, &channel) != RT_OK) {
		ctl_error("not an address: %s", ctl->gateway);
		exit(CTL_USAGE);
	}
	free(target);
	request.message_request_case =
		GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
	request.list_services = everything;
	reflection = rt_client_new(channel, &grpc__reflection__v1__server_reflection__descriptor);
	rt_client_start(reflection, 0, NULL, &attempt.op);
	rt_client_send(&attempt.op, &request.base);
	rt_client_half_close(&attempt.op);
	rt_loop_run(attempt.loop);
	rt_client_free(reflection);
	rt_channel_free(channel, stop, attempt.loop);
	rt_loop_run(attempt.loop);
	rt_tls_free(tls);
	*ret_message = attempt.message;
	return attempt.code;
}

static bool is_refusal(int code)
{
	return code == RT_CODE_UNAUTHENTICATED || code == RT_CODE_PERMISSION_DENIED;
}

static int try_run(struct ctl *ctl, void *options)
{
	char *message = NULL, *other = NULL;
	int code, second = RT_CODE_UNAUTHENTICATED, result;

	(void)options;
	ctl_rpc_init();
	code = try_once(ctl, NULL, &message);
	if (code == 0)
		second = try_once(ctl, NOBODYS_TOKEN, &other);
	if (code == 0 && is_refusal(second)) {
		result = CTL_OK;
		if (ctl->json)
			ctl_json_print(json_pack("{s:b}", "operator", 1));
		else
			printf("an operator\n");
	} else if (code == 0 && second == 0) {
		result = CTL_NEGATIVE;
		ctl_error("the gateway asks nobody who it is");
	} else {
		int status = code != 0 ? code : second;

		result = is_refusal(status) ? CTL_NEGATIVE : CTL_UNAVAILABLE;
		ctl_error("%s: %s", rt_code_name(status), code != 0 ? message : other);
	}
	free(message);
	free(other);
	rt_rpc_shutdown();
	return result;
}

const struct ctl_command ctl_auth_try = {
	.group = "auth",
	.name = "try",
	.about = "Whether the gateway takes this caller as an operator",
	.text = "Calls the gateway with the given certificate, token or key, and says whether it "
		"takes the caller as an operator. Exit code 1: it does not, or it asks nobody who "
		"it "
		"is.\vExample:\n"
		"  tandemctl auth try --token-file my-key",
	.run = try_run,
};
