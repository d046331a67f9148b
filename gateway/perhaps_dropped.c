/* perhaps_dropped.c - orders whose request_id was perhaps used before, for an order that was dropped: the archive knows.
 *
 *   gateway_question_ask       waits for the others of this turn
 *     ask_archive              FindOrders, on nobody's behalf: the order service has found out whose the order is
 *       found                  of each: the order that was placed before; or that it was for another request; or nothing: it is
 *                              to be placed; or why that is not known
 *   gateway_question_abandon   nobody waits for the answer any more
 *
 * An order that was never settled was not dropped but lost: it may be placed again. */
#include <string.h>

#include "gateway_internal.h"

#define IDS_MAX 1000 /* in a call */

typedef Tandem__Archive__V1__FoundOrder found_order;

struct gateway_question {
	struct gateway_placing *placing; /* NULL: nobody waits */
	gateway_question_answered *tell;
	struct rt_list link;        /* gateway->questions, until it is asked */
	ProtobufCBinaryData placed; /* owned: what the request would store */
	char *order_id;
};

/* Questions that are asked in one call. */
struct asked {
	struct gateway *gateway;
	struct rt_list link; /* gateway->asked */
	struct rt_client_op op;
	size_t count;
	struct gateway_question *questions[IDS_MAX];
};

static void question_free(struct gateway_question *question)
{
	free(question->placed.data);
	free(question->order_id);
	free(question);
}

/* ---- the answer ---- */

static bool same(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* It was placed before by the same request: that order is the answer. */
static void tell_order(const struct gateway_question *question,
		       const Tandem__Order__V1__Order *archived)
{
	static const struct rt_status ok;
	Tandem__Order__V1__Order order = *archived;
	ProtobufCBinaryData packed;

	order.n_returns = 0; /* not in the answers to placing */
	packed.len = tandem__order__v1__order__get_packed_size(&order);
	packed.data = rt_alloc(packed.len + 1);
	tandem__order__v1__order__pack(&order, packed.data);
	question->tell(question->placing, &packed, &ok);
	free(packed.data);
}

static void tell_status(const struct gateway_question *question, const struct rt_status *status)
{
	question->tell(question->placing, NULL, status);
}

/* `found` NULL: the archive does not have it. */
static void tell(const struct gateway_question *question, const found_order *found)
{
	const Tandem__Order__V1__Order *order =
		found == NULL || found->order == NULL ? NULL : found->order->order;
	struct rt_status status = { 0 };

	if (order != NULL && order->settled && same(&found->placed, &question->placed)) {
		tell_order(question, order);
		return;
	}
	if (order != NULL && order->settled) {
		rt_status_set(&status, RT_CODE_ALREADY_EXISTS,
			      "request_id was used before, with other content: use a new one");
		rt_status_info(&status, "REQUEST_ID_REUSED");
	}
	tell_status(question, &status);
	rt_status_done(&status);
}

static const found_order *found_with(const Tandem__Archive__V1__FindOrdersResponse *response,
				     const char *order_id)
{
	for (size_t i = 0; i < response->n_orders; i++) {
		const Tandem__Archive__V1__ArchivedOrder *order = response->orders[i]->order;

		if (order != NULL && order->order != NULL &&
		    strcmp(order->order->order_id, order_id) == 0)
			return response->orders[i];
	}
	return NULL;
}

static void wait_for_turn(struct gateway *gateway, struct gateway_question *question)
{
	rt_list_push(&gateway->questions, &question->link);
	rt_loop_defer(gateway->loop, &gateway->ask_task);
}

static void found(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct asked *asked = RT_CONTAINER_OF(op, struct asked, op);
	const Tandem__Archive__V1__FindOrdersResponse *response = (const void *)message;
	struct gateway *gateway = asked->gateway;
	struct rt_status away = { 0 };

	if (op->status.code != 0)
		gateway_archived_away(
			&away, &op->status,
			"an order with this request_id may have been placed, and archived");
	for (size_t i = 0; i < asked->count; i++) {
		struct gateway_question *question = asked->questions[i];

		if (question->placing != NULL && away.code == 0 && response != NULL &&
		    i >= response->answered && i > 0) {
			wait_for_turn(gateway, question); /* the answer was full */
			continue;
		}
		if (question->placing != NULL && away.code == 0 && response != NULL)
			tell(question, found_with(response, question->order_id));
		else if (question->placing != NULL)
			tell_status(question, &away);
		question_free(question);
	}
	rt_status_done(&away);
	rt_list_remove(&asked->link);
	free(asked);
	if (gateway->stopping)
		rt_loop_defer(gateway->loop, &gateway->stop_task);
}

/* ---- the question ---- */

static void ask_archive(struct rt_task *task)
{
	struct gateway *gateway = RT_CONTAINER_OF(task, struct gateway, ask_task);
	Tandem__Archive__V1__FindOrdersRequest request =
		TANDEM__ARCHIVE__V1__FIND_ORDERS_REQUEST__INIT;
	struct asked *asked = rt_alloc(sizeof(*asked));
	char *ids[IDS_MAX];
	struct rt_list *link;

	while (asked->count < IDS_MAX && (link = rt_list_pop(&gateway->questions)) != NULL) {
		struct gateway_question *question =
			RT_CONTAINER_OF(link, struct gateway_question, link);

		rt_list_init(link);
		ids[asked->count] = question->order_id;
		asked->questions[asked->count++] = question;
	}
	if (asked->count == 0) { /* all were abandoned */
		free(asked);
		return;
	}
	asked->gateway = gateway;
	rt_list_push(&gateway->asked, &asked->link);
	request.order_ids = ids;
	request.n_order_ids = asked->count;
	asked->op.timeout_ms = gateway->options.timeout_ms;
	asked->op.done = found;
	rt_client_start(gateway->options.archive,
			gateway_method_index(gateway->archive.client->descriptor, "FindOrders"),
			&request.base, &asked->op);
	if (!rt_list_empty(&gateway->questions))
		rt_loop_defer(gateway->loop, &gateway->ask_task);
}

struct gateway_question *gateway_question_ask(struct gateway_placing *placing,
					      const Tandem__Order__V1__PerhapsDropped *perhaps,
					      gateway_question_answered *tell_placing)
{
	struct gateway_question *question = rt_alloc(sizeof(*question));

	question->placing = placing;
	question->tell = tell_placing;
	question->order_id = rt_strdup(perhaps->order_id);
	question->placed.len = perhaps->placed.len;
	question->placed.data = rt_alloc(perhaps->placed.len + 1);
	if (perhaps->placed.len > 0)
		memcpy(question->placed.data, perhaps->placed.data, perhaps->placed.len);
	wait_for_turn(placing->gateway, question);
	return question;
}

void gateway_question_abandon(struct gateway_question *question)
{
	question->placing = NULL;
}

void gateway_questions_new(struct gateway *gateway)
{
	gateway->ask_task.run = ask_archive;
	rt_list_init(&gateway->questions);
	rt_list_init(&gateway->asked);
}

bool gateway_questions_close(struct gateway *gateway)
{
	for (struct rt_list *link = gateway->asked.next; link != &gateway->asked; link = link->next)
		rt_client_cancel(&RT_CONTAINER_OF(link, struct asked, link)->op);
	return rt_list_empty(&gateway->asked) && rt_list_empty(&gateway->questions) &&
	       !gateway->ask_task.queued;
}
