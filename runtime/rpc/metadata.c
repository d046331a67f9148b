/* metadata.c - what travels beside the messages of a call: lists in an arena, and gRPC's arrays. */
#include <grpc/slice.h>
#include <string.h>

#include "call_internal.h"
#include "grpc_internal.h"

static bool metadata_legal(const char *key, const void *value, size_t length)
{
	size_t key_length = strlen(key);
	const char *text = value;

	if (key_length == 0 || strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != key_length)
		return false;
	if (key_length > 4 && strcmp(key + key_length - 4, "-bin") == 0)
		return true;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	}
	return true;
}

void rpc_metadata_add(struct rpc_metadata **list, struct rt_arena *arena, const char *key,
		      const void *value, size_t length)
{
	struct rpc_metadata *entry;

	if (!metadata_legal(key, value, length))
		return;
	entry = rt_arena_take(arena, sizeof(*entry));
	entry->next = NULL;
	entry->key = rt_arena_copy(arena, key, strlen(key));
	entry->value = rt_arena_copy(arena, value, length);
	entry->length = length;
	while (*list != NULL)
		list = &(*list)->next;
	*list = entry;
}

const struct rpc_metadata *rpc_metadata_find(const struct rpc_metadata *list, const char *key)
{
	while (list != NULL && strcmp(list->key, key) != 0)
		list = list->next;
	return list;
}

size_t rpc_metadata_fill(const struct rpc_metadata *list, grpc_metadata *array)
{
	size_t count = 0;

	for (; list != NULL && count < RPC_METADATA_SENT_MAX; list = list->next) {
		array[count].key = grpc_slice_from_copied_string(list->key);
		array[count++].value = grpc_slice_from_copied_buffer(list->value, list->length);
	}
	return count;
}

void rpc_metadata_unref(grpc_metadata *array, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		grpc_slice_unref(array[i].key);
		grpc_slice_unref(array[i].value);
	}
}

const char *rpc_metadata_received(const grpc_metadata_array *array, const char *key,
				  struct rt_arena *arena, size_t *ret_length)
{
	for (size_t i = 0; i < array->count; i++) {
		const grpc_metadata *entry = &array->metadata[i];
		size_t length = GRPC_SLICE_LENGTH(entry->value);

		if (grpc_slice_str_cmp(entry->key, key) != 0)
			continue;
		if (ret_length != NULL)
			*ret_length = length;
		return rt_arena_copy(arena, GRPC_SLICE_START_PTR(entry->value), length);
	}
	return NULL;
}
