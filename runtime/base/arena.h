/* arena.h - memory for what lives and goes together: taken piece by piece, given back at once.
 *
 * Zeroed memory is a valid empty arena; it allocates nothing until the first piece is taken. */
#ifndef RT_ARENA_H
#define RT_ARENA_H

#include <protobuf-c/protobuf-c.h>

#include "rt.h"

struct rt_arena_chunk;
struct rt_arena {
	struct rt_arena_chunk *chunks;
	char *at;
	size_t left;
	ProtobufCAllocator allocator; /* see rt_arena_allocator */
};
/* Not zeroed; aligned for any type; stays until rt_arena_done. */
void *rt_arena_take(struct rt_arena *arena, size_t size_bytes);
/* A copy with a NUL after it. */
char *rt_arena_copy(struct rt_arena *arena, const void *data, size_t length);
char *rt_arena_printf(struct rt_arena *arena, const char *format, ...) RT_PRINTF(2, 3);
/* For the unpack functions of protobuf-c: what they make lives as long as the arena. */
ProtobufCAllocator *rt_arena_allocator(struct rt_arena *arena);
/* Gives everything back, but keeps a chunk of up to so many bytes to begin with again. */
void rt_arena_reset(struct rt_arena *arena, size_t keep_bytes);
void rt_arena_done(struct rt_arena *arena);

#endif
