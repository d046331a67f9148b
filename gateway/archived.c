/* archived.c - calls about an order that the order service does not have: it drops an order some time after it was
 * settled, once the archive has it (decision 058). Only settled orders are dropped. One that the archive has otherwise is
 * not answered from there: what it knows may be old, or the order is lost.
 *
 *   gateway_archived_takes   the order service has answered: is it the archive's turn?
 *     gateway_archived_ask   GetArchivedOrder, with the caller, the trace and the deadline of the call (ask_archive.c)
 *       answered             the archive's order as the answer; or that it cannot be changed; or what the order service
 *                            has said, if the archive does not know the order either
 *
 * Whose order it is stands in it, so the archive decides, as the order service does, who may see it. archived_list.c has
 * ListOrders, archived_batch.c the batches of moves. */
#include <string.h>

#include "check.h"
#include "gateway_internal.h"

struct archived {
	struct gateway *gateway;
	enum gateway_archived kind;
	struct rt_call *call;
	ProtobufCClosure closure;
	const char *order_id;
	uint64_t version;           /* of a watch: the last that its caller has seen */
	struct rt_status not_found; /* as the order service said it */
	struct rt_client_op op;
};

enum gateway_archived gateway_archived_kind(const char *method)
{
	static const struct {
		const char *method;
		enum gateway_archived kind;
	} kinds[] = {
		{ "GetOrder", ARCHIVED_GET },
		{ "ExplainOrder", ARCHIVED_EXPLAIN },
		{ "WatchOrder", ARCHIVED_WATCH },
		{ "ListOrders", ARCHIVED_LIST },
		{ "ConfirmOrder", ARCHIVED_MOVE },
		{ "CancelOrder", ARCHIVED_MOVE },
		{ "ExtendHold", ARCHIVED_MOVE },
		{ "ReturnOrder", ARCHIVED_MOVE },
		{ "BatchConfirmOrders", ARCHIVED_MOVES },
		{ "BatchCancelOrders", ARCHIVED_MOVES },
	};

	for (size_t i = 0; i < RT_LENGTH(kinds); i++)
		if (strcmp(method, kinds[i].method) == 0)
			return kinds[i].kind;
	return ARCHIVED_NOT;
}

/* ---- answers ---- */

static void answer_get(const struct archived *archived, const Tandem__Order__V1__Order *order)
{
	Tandem__Order__V1__GetOrderResponse response = TANDEM__ORDER__V1__GET_ORDER_RESPONSE__INIT;

	response.order = (Tandem__Order__V1__Order *)(uintptr_t)order;
	archived->closure(&response.base, archived->call);
}

static void answer_watch(const struct archived *archived, const Tandem__Order__V1__Order *order)
{
	Tandem__Order__V1__WatchOrderResponse response =
		TANDEM__ORDER__V1__WATCH_ORDER_RESPONSE__INIT;

	response.order = (Tandem__Order__V1__Order *)(uintptr_t)order;
	if (order->version > archived->version)
		archived->closure(&response.base, archived->call);
	rt_call_finish(archived->call);
}

static void answer_explain(const struct archived *archived, const Tandem__Order__V1__Order *order,
			   const archived_response *answer)
{
	Tandem__Order__V1__ExplainOrderResponse response =
		TANDEM__ORDER__V1__EXPLAIN_ORDER_RESPONSE__INIT;
	Tandem__Order__V1__OrderExplanation explanation =
		TANDEM__ORDER__V1__ORDER_EXPLANATION__INIT;
	bool bare = order->status_reason[0] == '\0';
	char *because = rt_printf("%s%s%s.", gateway_archived_status(order), bare ? "" : ": ",
				  order->status_reason);
	char next[] = "Nothing: the order is settled. It is in the archive alone, and cannot be "
		      "changed any more.";

	explanation.order = (Tandem__Order__V1__Order *)(uintptr_t)order;
	explanation.events = answer->events;
	explanation.n_events = answer->n_events;
	explanation.because = because;
	explanation.next = next;
	response.explanation = &explanation;
	archived->closure(&response.base, archived->call);
	free(because);
}

static void answer_with(const struct archived *archived, const archived_response *answer,
			const Tandem__Order__V1__Order *order)
{
	struct rt_status status = { 0 };

	switch (archived->kind) {
	case ARCHIVED_GET:
		answer_get(archived, order);
		break;
	case ARCHIVED_WATCH:
		answer_watch(archived, order);
		break;
	case ARCHIVED_EXPLAIN:
		answer_explain(archived, order, answer);
		break;
	default:
		gateway_archived_refuses(&status, order);
		rt_call_fail(archived->call, &status);
		rt_status_done(&status);
		break;
	}
}

static void answered(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct archived *archived = RT_CONTAINER_OF(op, struct archived, op);
	const archived_response *answer = (const void *)message;
	const Tandem__Order__V1__Order *order = gateway_archived_settled(answer);
	struct rt_status status = { 0 };

	rt_call_on_cancel(archived->call, NULL, NULL);
	if (op->status.code == 0 && order != NULL) {
		answer_with(archived, answer, order);
	} else if (op->status.code == 0 || op->status.code == RT_CODE_NOT_FOUND) {
		rt_call_fail(archived->call, &archived->not_found);
	} else {
		gateway_archived_away(&status, &op->status,
				      archived->not_found.message == NULL
					      ? "the order service does not have this order"
					      : archived->not_found.message);
		rt_call_fail(archived->call, &status);
	}
	rt_status_done(&status);
	rt_status_done(&archived->not_found);
	free(archived);
}

static void caller_left(struct rt_call *call, void *user)
{
	struct archived *archived = user;

	(void)call;
	rt_client_cancel(&archived->op);
}

static bool ask_for_one(const struct gateway_passed *passed, enum gateway_archived kind)
{
	const char *order_id = gateway_order_id(passed->request);
	struct archived *archived;

	if (passed->status->code != RT_CODE_NOT_FOUND || !check_order_id(order_id))
		return false;
	archived = rt_alloc(sizeof(*archived));
	archived->gateway = passed->gateway;
	archived->kind = kind;
	archived->call = passed->call;
	archived->closure = passed->closure;
	archived->order_id = order_id;
	archived->version = passed->version;
	rt_status_copy(&archived->not_found, passed->status);
	archived->op.done = answered;
	gateway_archived_ask(archived->gateway, archived->call, order_id, &archived->op);
	rt_call_on_cancel(archived->call, caller_left, archived);
	return true;
}

bool gateway_archived_takes(const struct gateway_passed *passed, enum gateway_archived kind)
{
	if (kind == ARCHIVED_NOT || passed->gateway->options.archive == NULL ||
	    rt_call_cancelled(passed->call))
		return false;
	if (kind == ARCHIVED_LIST)
		return gateway_archived_list(passed);
	if (kind == ARCHIVED_MOVES)
		return gateway_archived_batch(passed);
	return ask_for_one(passed, kind);
}
