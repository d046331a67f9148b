/* test_transcript.c - the transcript of the whole system while it serves one order. Nothing fails;
 * time is virtual, so the text is exact. Read it to learn the flow; docs/flow.md names the files
 * for each step. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "run.h"
#include "world.h"

/* Order ids come from the seed; here it only matters which are the same. */
static char *with_short_ids(const char *text)
{
	struct rt_buf out = { 0 };
	char known[8][16];
	unsigned count = 0;

	rt_buf_printf(&out, "%s", "");
	for (const char *at = text; *at != '\0';) {
		unsigned i = 0;

		if (strncmp(at, ORDER_ID_PREFIX, 4) != 0) {
			rt_buf_add(&out, at++, 1);
			continue;
		}
		while (i < count && strncmp(known[i], at, 10) != 0)
			i++;
		if (i == count && count < RT_LENGTH(known))
			snprintf(known[count++], sizeof(known[0]), "%.10s", at);
		rt_buf_printf(&out, "order %c", 'A' + (char)i);
		at += 10;
	}
	rt_buf_add(&out, "", 1);
	return out.data;
}

static void compare(struct world *world, const char *expected)
{
	char *found = with_short_ids(world_transcript(world));

	if (strcmp(found, expected) != 0)
		printf("\n--- found:\n%s--- expected:\n%s", found, expected);
	CU_ASSERT_STRING_EQUAL(found, expected);
	CU_ASSERT_STRING_EQUAL(world_violations(world), "");
	free(found);
}

static struct world *calm_world(void)
{
	struct world_options options = { .seed = 7, .record = true };

	return world_new(&options);
}

/* One order from placing to rest, beginning with five apples. */
static void compare_order(uint32_t quantity, int64_t hold_ms, enum world_order_fate fate,
			  const char *expected)
{
	struct world *world = calm_world();

	world_stock(world, "apple", 5);
	world_order(world, "r1", "apple", quantity, hold_ms, fate);
	CU_ASSERT(world_run_until_quiet(world, WORLD_QUIET_MS));
	world_check(world);
	compare(world, expected);
	world_free(world);
}

/* How each of them begins. */
#define STARTED                                                                                    \
	"[  1000 ms] order-1      starts\n"                                                        \
	"[  1000 ms] inventory-1  starts\n"                                                        \
	"[  1000 ms] gateway-1    starts\n"                                                        \
	"[  2000 ms] client-1     -> AdjustStock client-1-a apple +5\n"                            \
	"[  2000 ms] inventory->  StockAdjusted apple v1\n"                                        \
	"[  2000 ms] order-1<-    StockAdjusted apple v1\n"                                        \
	"[  2000 ms] client-1     <- AdjustStock OK\n"
#define RESERVED                                                                                   \
	STARTED                                                                                    \
	"[  2100 ms] client-2     -> PlaceOrder r1 apple×2, waits\n"                              \
	"[  2100 ms] order->      OrderPlaced order A v1\n"                                        \
	"[  2100 ms] inventory-1<- OrderPlaced order A v1\n"                                       \
	"[  2100 ms] inventory->  InventoryReserved order A v1\n"                                  \
	"[  2100 ms] order-1<-    InventoryReserved order A v1\n"                                  \
	"[  2100 ms] order->      OrderReserved order A v2\n"                                      \
	"[  2100 ms] inventory-1<- OrderReserved order A v2\n"                                     \
	"[  2100 ms] client-2     <- PlaceOrder OK RESERVED\n"

static void confirmed(void)
{
	compare_order(2, 60000, FATE_CONFIRM,
		      RESERVED "[  2100 ms] client-2     -> ConfirmOrder order A\n"
			       "[  2100 ms] order->      OrderConfirmed order A v3\n"
			       "[  2100 ms] inventory-1<- OrderConfirmed order A v3\n"
			       "[  2100 ms] inventory->  InventoryCommitted order A v2\n"
			       "[  2100 ms] order-1<-    InventoryCommitted order A v2\n"
			       "[  2100 ms] client-2     <- ConfirmOrder OK CONFIRMED\n"
			       "[  2100 ms] order->      OrderSettled order A v4\n"
			       "[  2100 ms] inventory-1<- OrderSettled order A v4\n"
			       "[  2200 ms] world        quiet\n");
}

static void rejected(void)
{
	compare_order(6, 60000, FATE_LEAVE,
		      STARTED "[  2100 ms] client-2     -> PlaceOrder r1 apple×6, waits\n"
			      "[  2100 ms] order->      OrderPlaced order A v1\n"
			      "[  2100 ms] inventory-1<- OrderPlaced order A v1\n"
			      "[  2100 ms] inventory->  InventoryUnavailable order A v1\n"
			      "[  2100 ms] order-1<-    InventoryUnavailable order A v1\n"
			      "[  2100 ms] order->      OrderRejected order A v2\n"
			      "[  2100 ms] inventory-1<- OrderRejected order A v2\n"
			      "[  2100 ms] client-2     <- PlaceOrder OK REJECTED\n"
			      "[  2200 ms] world        quiet\n");
}

static void cancelled(void)
{
	compare_order(2, 60000, FATE_CANCEL,
		      RESERVED "[  2100 ms] client-2     -> CancelOrder order A\n"
			       "[  2100 ms] order->      OrderCancelled order A v3\n"
			       "[  2100 ms] inventory-1<- OrderCancelled order A v3\n"
			       "[  2100 ms] inventory->  InventoryReleased order A v2\n"
			       "[  2100 ms] order-1<-    InventoryReleased order A v2\n"
			       "[  2100 ms] client-2     <- CancelOrder OK CANCELLED\n"
			       "[  2100 ms] order->      OrderSettled order A v4\n"
			       "[  2100 ms] inventory-1<- OrderSettled order A v4\n"
			       "[  2200 ms] world        quiet\n");
}

static void expired(void)
{
	compare_order(2, 2000, FATE_LEAVE,
		      RESERVED "[  4250 ms] order->      OrderExpired order A v3\n"
			       "[  4250 ms] inventory-1<- OrderExpired order A v3\n"
			       "[  4250 ms] inventory->  InventoryReleased order A v2\n"
			       "[  4250 ms] order-1<-    InventoryReleased order A v2\n"
			       "[  4250 ms] order->      OrderSettled order A v4\n"
			       "[  4250 ms] inventory-1<- OrderSettled order A v4\n"
			       "[  4700 ms] world        quiet\n");
}

static void publish(struct world *world, uint64_t seq)
{
	stored_publish(world_redis(world), STORED_ORDERS, WORLD_START_MS,
		       &(struct stored_event){ .type = "tandem.order.v1.OrderTest",
					       .subject = "ord_a",
					       .seq = seq });
}

/* A stream that is deleted begins again with the id that its last entry had: it is read too. */
static void stream_begins_again(void)
{
	struct world *world = calm_world();

	publish(world, 1);
	memory_do(world_redis(world), "DEL", STORED_ORDERS, NULL);
	publish(world, 2);
	publish(world, 3);
	CU_ASSERT_STRING_EQUAL(world_violations(world), "");
	CU_ASSERT_PTR_NOT_NULL(strstr(world_transcript(world), "OrderTest ord_a v2"));
	world_free(world);
}

int main(void)
{
	static const struct test tests[] = {
		{ "an order is placed, reserved, confirmed and settled", confirmed },
		{ "an order for too much is rejected", rejected },
		{ "a reserved order is cancelled and its stock comes back", cancelled },
		{ "a reserved order that is not confirmed expires", expired },
		{ "a stream that begins again is read from its first entry on",
		  stream_begins_again },
	};

	tests_log_nothing();
	return tests_run("transcript", tests, RT_LENGTH(tests));
}
