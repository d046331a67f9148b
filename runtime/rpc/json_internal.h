/* json_internal.h - what json.c and json_read.c share. Private to rpc. */
#ifndef RT_RPC_JSON_INTERNAL_H
#define RT_RPC_JSON_INTERNAL_H

#include "json.h"

#define JSON_NAME_TEXT 128
/* "orderId" of "order_id". */
void json_name(const char *name, char text[JSON_NAME_TEXT]);
/* Whether it is a map of strings: protobuf-c does not mark its entries, which are messages "…Entry" of key and value. */
bool json_is_map(const ProtobufCFieldDescriptor *field);

/* 0001-01-01T00:00:00Z, 9999-12-31T23:59:59Z */
#define JSON_SECONDS_MIN INT64_C(-62135596800)
#define JSON_SECONDS_MAX INT64_C(253402300799)

#endif
