/* keys.c - the keyspace, and answers as hiredis represents them. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

/* ---- texts ---- */

struct memory_text text_copy(const char *data, size_t length)
{
	struct memory_text text = { .data = rt_realloc(NULL, length + 1), .length = length };

	if (length > 0)
		memcpy(text.data, data, length);
	text.data[length] = '\0';
	return text;
}

bool text_same(const struct memory_text *a, const struct memory_text *b)
{
	return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

void number_text(double n, char text[NUMBER_TEXT])
{
	/* Whole numbers, but for -0, as %.17g writes them, in a tenth of the time. */
	if (n >= -1e15 && n <= 1e15 && (double)(int64_t)n == n && !(n == 0 && signbit(n)))
		rt_int_text((int64_t)n, text);
	else
		snprintf(text, NUMBER_TEXT, "%.17g", n);
}

/* ---- answers ---- */

redisReply *reply_new(struct memory_call *call, int type)
{
	redisReply *reply = rt_arena_take(call->arena, sizeof(*reply));

	*reply = (redisReply){ .type = type };
	return reply;
}

static redisReply *reply_of(struct memory_call *call, int type, const char *data, size_t length)
{
	redisReply *reply = reply_new(call, type);

	reply->len = length;
	reply->str = rt_arena_take(call->arena, length + 1);
	memcpy(reply->str, data, length);
	reply->str[length] = '\0';
	return reply;
}

redisReply *reply_status(struct memory_call *call, const char *text)
{
	return reply_of(call, REDIS_REPLY_STATUS, text, strlen(text));
}

redisReply *reply_ok(struct memory_call *call)
{
	return reply_status(call, "OK");
}

redisReply *reply_nil(struct memory_call *call)
{
	return reply_new(call, REDIS_REPLY_NIL);
}

redisReply *reply_int(struct memory_call *call, int64_t n)
{
	redisReply *reply = reply_new(call, REDIS_REPLY_INTEGER);

	reply->integer = n;
	return reply;
}

redisReply *reply_text(struct memory_call *call, const struct memory_text *text)
{
	redisReply *reply;

	if (!call->scripted)
		return reply_of(call, REDIS_REPLY_STRING, text->data, text->length);
	reply = reply_new(call, REDIS_REPLY_STRING);
	reply->str = text->data;
	reply->len = text->length;
	return reply;
}

redisReply *reply_str(struct memory_call *call, const char *text)
{
	return reply_of(call, REDIS_REPLY_STRING, text, strlen(text));
}

redisReply *reply_id(struct memory_call *call, struct memory_id id)
{
	char text[MEMORY_ID_TEXT];

	memory_id_format(id, text);
	return reply_str(call, text);
}

redisReply *reply_error(struct memory_call *call, const char *format, ...)
{
	redisReply *reply = reply_new(call, REDIS_REPLY_ERROR);
	va_list args;

	va_start(args, format);
	reply->str = rt_arena_take(call->arena, 512);
	vsnprintf(reply->str, 512, format, args);
	va_end(args);
	reply->len = strlen(reply->str);
	return reply;
}

redisReply *reply_array(struct memory_call *call, size_t room)
{
	redisReply *reply = reply_new(call, REDIS_REPLY_ARRAY);

	reply->element = rt_arena_take(call->arena, (room + 1) * sizeof(*reply->element));
	return reply;
}

void reply_push(redisReply *array, redisReply *element)
{
	array->element[array->elements++] = element;
}

redisReply *reply_list(struct memory_call *call, const char *types, ...)
{
	redisReply *array = reply_array(call, strlen(types));
	va_list args;

	va_start(args, types);
	for (; *types != '\0'; types++) {
		if (*types == 's')
			reply_push(array, reply_str(call, va_arg(args, const char *)));
		else if (*types == 'i')
			reply_push(array, reply_int(call, va_arg(args, int64_t)));
		else if (*types == 'd')
			reply_push(array, reply_id(call, va_arg(args, struct memory_id)));
		else
			reply_push(array, va_arg(args, redisReply *));
	}
	va_end(args);
	return array;
}

bool fail(struct memory_call *call, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	call->error = reply_error(call, "%s", text);
	return false;
}

/* ---- arguments ---- */

bool arg_is(const struct memory_call *call, size_t i, const char *word)
{
	return i < call->argc && strcasecmp(call->argv[i].data, word) == 0;
}

bool arg_int(struct memory_call *call, size_t i, int64_t *ret)
{
	const char *text = i < call->argc ? call->argv[i].data : "";
	char *end;

	if (text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) {
		*ret = strtoll(text, &end, 10);
		if (*end == '\0')
			return true;
	}
	return fail(call, ERROR_INT);
}

/* ---- keys ---- */

static void field_free(struct memory_field *field)
{
	free(field->name.data);
	free(field->value.data);
	free(field);
}

static void key_done(struct memory_key *key)
{
	struct memory_field *field, *next;

	switch (key->type) {
	case MEMORY_TEXT:
		free(key->text.data);
		break;
	case MEMORY_HASH:
	case MEMORY_SET:
		HASH_ITER (hh, key->fields, field, next) {
			HASH_DEL(key->fields, field);
			field_free(field);
		}
		break;
	case MEMORY_ZSET:
		for (size_t i = 0; i < key->zset.count; i++)
			free(key->zset.entries[i].member.data);
		free(key->zset.entries);
		break;
	case MEMORY_STREAM:
		stream_done(&key->stream);
		break;
	}
}

void key_free(struct memory_key *key)
{
	key_done(key);
	free(key->name.data);
	free(key);
}

void key_delete(struct memory_redis *redis, struct memory_key *key)
{
	HASH_DEL(redis->keys, key);
	key_free(key);
}

static struct memory_zset zset_copy(const struct memory_zset *zset)
{
	struct memory_zset copy = { .count = zset->count, .capacity = zset->count };

	copy.entries = rt_realloc(NULL, (zset->count + 1) * sizeof(*copy.entries));
	for (size_t i = 0; i < zset->count; i++) {
		const struct memory_text *member = &zset->entries[i].member;

		copy.entries[i].score = zset->entries[i].score;
		copy.entries[i].member = text_copy(member->data, member->length);
	}
	return copy;
}

struct memory_key *key_copy(const struct memory_key *key)
{
	struct memory_key *copy = rt_alloc(sizeof(*copy));

	copy->name = text_copy(key->name.data, key->name.length);
	copy->type = key->type;
	copy->expire_ms = key->expire_ms;
	switch (key->type) {
	case MEMORY_TEXT:
		copy->text = text_copy(key->text.data, key->text.length);
		break;
	case MEMORY_HASH:
	case MEMORY_SET:
		for (const struct memory_field *at = key->fields; at != NULL; at = at->hh.next) {
			struct memory_field *field = rt_alloc(sizeof(*field));

			field->name = text_copy(at->name.data, at->name.length);
			field->value = text_copy(at->value.data, at->value.length);
			HASH_ADD_KEYPTR(hh, copy->fields, field->name.data, field->name.length,
					field);
		}
		break;
	case MEMORY_ZSET:
		copy->zset = zset_copy(&key->zset);
		break;
	case MEMORY_STREAM:
		copy->stream = stream_copy(&key->stream);
		break;
	}
	return copy;
}

static struct memory_key *find(const struct memory_redis *redis, const char *name, size_t length)
{
	struct memory_key *key;

	HASH_FIND(hh, redis->keys, name, length, key);
	return key;
}

struct memory_key *key_find(struct memory_call *call, size_t i)
{
	struct memory_key *key = find(call->redis, call->argv[i].data, call->argv[i].length);

	if (key == NULL || key->expire_ms == 0 || key->expire_ms > call->now_ms)
		return key;
	key_delete(call->redis, key);
	return NULL;
}

bool key_fits(struct memory_call *call)
{
	if (call->key == NULL || call->key->type == call->command->type)
		return true;
	return fail(call, "WRONGTYPE Operation against a key holding the wrong kind of value");
}

struct memory_key *key_make(struct memory_call *call)
{
	const struct memory_text *name = &call->argv[call->command->key];
	struct memory_key *key = call->key;

	if (key != NULL)
		return key;
	call->key = key = rt_alloc(sizeof(*key));
	key->name = text_copy(name->data, name->length);
	key->type = call->command->type;
	if (key->type == MEMORY_STREAM)
		key->stream.life = ++call->redis->lives;
	HASH_ADD_KEYPTR(hh, call->redis->keys, key->name.data, key->name.length, key);
	return key;
}

struct memory_key *memory_find(const struct memory_redis *redis, const char *name,
			       enum memory_type type)
{
	struct memory_key *key = find(redis, name, strlen(name));

	return key != NULL && key->type == type ? key : NULL;
}

struct memory_stream *memory_stream_find(const struct memory_redis *redis, const char *name)
{
	struct memory_key *key = memory_find(redis, name, MEMORY_STREAM);

	return key == NULL ? NULL : &key->stream;
}

const struct memory_text *memory_field(const struct memory_key *key, const char *name)
{
	struct memory_field *field;

	HASH_FIND(hh, key->fields, name, strlen(name), field);
	return field == NULL ? NULL : &field->value;
}

/* ---- the Redis ---- */

struct memory_redis *memory_redis_new(struct rt_loop *loop)
{
	struct memory_redis *redis = rt_alloc(sizeof(*redis));

	redis->loop = loop;
	redis->arena = rt_alloc(sizeof(*redis->arena));
	rt_list_init(&redis->links);
	rt_list_init(&redis->blocked);
	rt_list_init(&redis->late);
	return redis;
}

void memory_redis_free(struct memory_redis *redis)
{
	struct memory_key *key, *next;

	if (redis == NULL)
		return;
	memory_late_free(redis);
	for (int i = 0; i < MEMORY_MASTERS_MAX; i++)
		memory_master_caught_up(redis, i);
	HASH_ITER (hh, redis->keys, key, next)
		key_delete(redis, key);
	memory_functions_free(redis);
	rt_arena_done(redis->arena);
	free(redis->arena);
	free(redis);
}

#define WORDS_MAX 32

const struct redisReply *memory_do(struct memory_redis *redis, const char *word, ...)
{
	struct memory_text argv[WORDS_MAX];
	size_t argc = 0;
	va_list args;

	va_start(args, word);
	for (const char *at = word; at != NULL && argc < WORDS_MAX; at = va_arg(args, const char *))
		argv[argc++] = (struct memory_text){ (char *)(uintptr_t)at, strlen(at) };
	va_end(args);
	rt_arena_reset(redis->arena, 65536);
	return memory_run(redis, redis->arena, argc, argv);
}
