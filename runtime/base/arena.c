/* arena.c - a list of chunks, each twice as large as the one before it, up to a limit. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"

#define CHUNK_MIN 1024
#define CHUNK_MAX ((size_t)64 * 1024)
#define ALIGNMENT _Alignof(max_align_t)

struct rt_arena_chunk {
	struct rt_arena_chunk *next;
	size_t size;
	_Alignas(max_align_t) char bytes[];
};

static void grow(struct rt_arena *arena, size_t wanted)
{
	size_t size = CHUNK_MIN;
	struct rt_arena_chunk *chunk;

	if (arena->chunks != NULL)
		size = RT_MIN(arena->chunks->size * 2, CHUNK_MAX);
	size = RT_MAX(size, wanted);
	/* Not rt_alloc: these bytes need not be zero. */
	chunk = rt_realloc(NULL, sizeof(*chunk) + size);
	chunk->next = arena->chunks;
	chunk->size = size;
	arena->chunks = chunk;
	arena->at = chunk->bytes;
	arena->left = size;
}

void *rt_arena_take(struct rt_arena *arena, size_t size_bytes)
{
	void *piece;

	size_bytes = (size_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (size_bytes > arena->left)
		grow(arena, size_bytes);
	piece = arena->at;
	arena->at += size_bytes;
	arena->left -= size_bytes;
	return piece;
}

char *rt_arena_copy(struct rt_arena *arena, const void *data, size_t length)
{
	char *copy = rt_arena_take(arena, length + 1);

	if (length > 0)
		memcpy(copy, data, length);
	copy[length] = '\0';
	return copy;
}

char *rt_arena_printf(struct rt_arena *arena, const char *format, ...)
{
	char short_text[256], *text;
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(short_text, sizeof(short_text), format, args);
	va_end(args);
	text = rt_arena_take(arena, (size_t)length + 1);
	if ((size_t)length < sizeof(short_text)) {
		memcpy(text, short_text, (size_t)length + 1);
		return text;
	}
	va_start(args, format);
	vsnprintf(text, (size_t)length + 1, format, args);
	va_end(args);
	return text;
}

static void *allocate(void *arena, size_t size)
{
	return rt_arena_take(arena, size);
}

static void leave(void *arena, void *piece)
{
	(void)arena;
	(void)piece;
}

ProtobufCAllocator *rt_arena_allocator(struct rt_arena *arena)
{
	arena->allocator = (ProtobufCAllocator){ allocate, leave, arena };
	return &arena->allocator;
}

static void free_chunks(struct rt_arena_chunk *chunk)
{
	while (chunk != NULL) {
		struct rt_arena_chunk *next = chunk->next;

		free(chunk);
		chunk = next;
	}
}

void rt_arena_reset(struct rt_arena *arena, size_t keep_bytes)
{
	struct rt_arena_chunk *kept = arena->chunks;

	if (kept == NULL || kept->size > keep_bytes) {
		rt_arena_done(arena);
		return;
	}
	free_chunks(kept->next);
	kept->next = NULL;
	arena->at = kept->bytes;
	arena->left = kept->size;
}

void rt_arena_done(struct rt_arena *arena)
{
	free_chunks(arena->chunks);
	*arena = (struct rt_arena){ .chunks = NULL };
}
