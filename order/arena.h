/* arena.h - memory for the messages of one call: taken piece by piece, given back at once.
 *
 * Zeroed memory is a valid empty arena; it allocates nothing until the first piece is taken. */
#ifndef ORDER_ARENA_H
#define ORDER_ARENA_H

#include <protobuf-c/protobuf-c.h>

#include "rt.h"

struct order_arena_chunk;
struct order_arena {
	struct order_arena_chunk *chunks;
	char *at;
	size_t left;
	ProtobufCAllocator allocator; /* see order_arena_allocator */
};
/* Not zeroed; aligned for any type; stays until order_arena_done. */
void *order_arena_take(struct order_arena *arena, size_t size_bytes);
char *order_arena_printf(struct order_arena *arena, const char *format, ...) RT_PRINTF(2, 3);
/* For the unpack functions of protobuf-c: what they make lives as long as the arena. */
ProtobufCAllocator *order_arena_allocator(struct order_arena *arena);
void order_arena_done(struct order_arena *arena);

#endif
