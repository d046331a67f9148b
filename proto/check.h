/* check.h - the limits of the public contract, as code: every field of every request.
 *
 * Used at the edge by the gateway and again by the services, which have ports of their own.
 * Pure. Strings have passed rt_wire_check: valid UTF-8 without NUL. */
#ifndef PROTO_CHECK_H
#define PROTO_CHECK_H

#include <protobuf-c/protobuf-c.h>

#include "rpc/rpc.h"

struct Tandem__Order__V1__PlaceOrderRequest;

#define CHECK_LINES_MAX        100
#define CHECK_QUANTITY_MAX     1000000
#define CHECK_SKU_MAX          64
#define CHECK_ID_MAX           128
#define CHECK_LABELS_MAX       16
#define CHECK_LABEL_KEY_MAX    64
#define CHECK_LABEL_VALUE_MAX  256
#define CHECK_REASON_MAX       256
#define CHECK_HOLD_MIN_MS      1000LL
#define CHECK_HOLD_MAX_MS      (30LL * 86400000)
#define CHECK_HOLD_STANDARD_MS (15LL * 60000)
#define CHECK_BATCH_MAX        1000
#define CHECK_RETURNS_MAX      20
#define CHECK_DELTA_MAX        1000000000LL
#define CHECK_THRESHOLD_MAX    1000000000000ULL
#define CHECK_PAGE_STANDARD    50
#define CHECK_PAGE_MAX         1000
#define CHECK_VIOLATIONS_MAX   20 /* more are not listed */
/* The message size that gRPC clients accept by default: no answer may be larger. */
#define CHECK_ANSWER_MAX (4 * 1024 * 1024)
/* What the error of a batch's item can take of the answer. */
#define CHECK_ERROR_MAX 3072

/* Checks any request message of OrderService, InventoryService or ArchiveService, recognised by its descriptor.
 * True: fine. False: `status` is INVALID_ARGUMENT with a field violation for each fault. Items of a
 * batch have outcomes of their own: check them one by one. For BatchPlaceOrders, this checks that all answers fit into one message. A message without rules is fine. */
bool check_request(const ProtobufCMessage *request, struct rt_status *status);
/* The same for the request of a call; ends the call when the request is not fine. */
bool check_call(struct rt_call *call, const ProtobufCMessage *request);
/* A packed PlaceOrderRequest that is as nearly all are: well formed, within all limits, its texts in ASCII, no
 * labels and no hold of its own. One pass. False says nothing: unpack it, and check_request. */
bool check_packed_order(const uint8_t *data, size_t length, bool *ret_wait_for_decision);
/* The bytes that the item's result can take of a BatchPlaceOrdersResponse, whatever becomes of it. */
size_t check_result_max(const struct Tandem__Order__V1__PlaceOrderRequest *request);
/* The page size in effect: 0 → 50, more than 1000 → 1000. */
size_t check_page_size(int32_t page_size);
/* "ord_" and 26 base32 digits. In ids that carry a bucket (rt_bucket) the lowest two bits of the last digit are
 * CHECK_BUCKET_MARK, in others 0. */
#define CHECK_BUCKET_MARK 1
bool check_order_id(const char *order_id);
/* The bucket that the first two digits of a valid id say; -1: it carries none. */
int check_order_bucket(const char *order_id);

#endif
