/* explain_archive.c - explains an order that Redis does not have: the gateway has the archive's answer, if it was dropped.
 * There is nothing else to find out about it: no reservation, no timer, and nothing under way. */
#include <inttypes.h>

#include "commands.h"
#include "explain.h"
#include "tandem/order/v1/order_service.pb-c.h"
#include "trace/trace.h"

static int64_t time_ms(const Google__Protobuf__Timestamp *time)
{
	return time == NULL ? 0 : time->seconds * 1000 + time->nanos / 1000000;
}

static void print_json(const Tandem__Order__V1__OrderExplanation *explanation, const char *trace_id)
{
	json_t *json = ctl_message_json(&explanation->base, true);

	json_object_set_new(json, "trace_id", ctl_json_text(trace_id));
	json_object_set_new(json, "reservation", json_null());
	json_object_set_new(json, "timer_ms", json_null());
	ctl_json_print(json);
}

static void print_people(const Tandem__Order__V1__OrderExplanation *explanation,
			 const char *trace_id)
{
	struct ctl_table table = CTL_TABLE("TIME", "CONTEXT", "KIND", "VERSION", "BY", "TEXT");

	for (size_t i = 0; i < explanation->n_events; i++) {
		const Tandem__Order__V1__OrderLifeEvent *event = explanation->events[i];
		char time[RT_TIME_TEXT];

		rt_time_format(time_ms(event->time), time);
		ctl_cell(&table, "%s", time);
		ctl_cell(&table, "%s", event->context);
		ctl_cell(&table, "%s", event->kind);
		ctl_cell(&table, "%" PRIu64, event->version);
		ctl_cell(&table, "%s", event->actor);
		ctl_cell(&table, "%s", event->text);
	}
	ctl_table_print(&table);
	printf("\nTrace:       %s\n\nWhy:  %s\nNext: %s\n", trace_id, explanation->because,
	       explanation->next);
}

int explain_archived(struct ctl *ctl, const char *order_id)
{
	Tandem__Order__V1__ExplainOrderRequest request =
		TANDEM__ORDER__V1__EXPLAIN_ORDER_REQUEST__INIT;
	const Tandem__Order__V1__ExplainOrderResponse *answer;
	ProtobufCMessage *response;
	char trace_id[RT_TRACE_ID_TEXT] = "";
	int code;

	request.order_id = (char *)(uintptr_t)order_id;
	code = ctl_call(ctl, ctl_order_service(ctl), "ExplainOrder", &request.base, &response);
	if (code != CTL_OK)
		return code;
	answer = (const void *)response;
	if (answer->explanation != NULL && answer->explanation->order != NULL) {
		rt_trace_find("", order_id, trace_id);
		if (ctl->json)
			print_json(answer->explanation, trace_id);
		else
			print_people(answer->explanation, trace_id);
	}
	protobuf_c_message_free_unpacked(response, NULL);
	return CTL_OK;
}
