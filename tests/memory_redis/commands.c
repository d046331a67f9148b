/* commands.c - the table of commands; texts, hashes, sets and sorted sets. */
#include <math.h>
#include <stdio.h>

#include "internal.h"

/* ---- texts ---- */

static redisReply *run_get(struct memory_call *call)
{
	struct memory_key *key;

	if (!key_get(call, 1, MEMORY_TEXT, &key))
		return reply_error(call, ERROR_TYPE);
	return key == NULL ? reply_nil(call) : reply_text(call, &key->text);
}

static redisReply *run_mget(struct memory_call *call)
{
	redisReply *answer = reply_array(call, call->argc);
	struct memory_key *key;

	for (size_t i = 1; i < call->argc; i++)
		reply_push(answer, key_get(call, i, MEMORY_TEXT, &key) && key != NULL
					   ? reply_text(call, &key->text)
					   : reply_nil(call));
	return answer;
}

/* SET key value [PX ms] */
static redisReply *run_set(struct memory_call *call)
{
	int64_t expire_ms = 0;
	struct memory_key *key;

	if (call->argc != 3) {
		if (call->argc != 5 || !arg_is(call, 3, "PX"))
			return reply_error(call, ERROR_SYNTAX);
		if (!arg_int(call, 4, &expire_ms))
			return reply_error(call, ERROR_INT);
		if (expire_ms <= 0)
			return reply_error(call, "ERR invalid expire time in 'set' command");
		expire_ms += call->now_ms;
	}
	if (!key_get(call, 1, MEMORY_TEXT, &key) || key != NULL)
		key_delete(call->redis, key);
	key_make(call, 1, MEMORY_TEXT, &key);
	key->text = text_copy(call->argv[2].data, call->argv[2].length);
	key->expire_ms = expire_ms;
	call->redis->writes++;
	return reply_ok(call);
}

/* ---- any type ---- */

static redisReply *run_del(struct memory_call *call)
{
	int64_t count = 0;
	struct memory_key *key;

	for (size_t i = 1; i < call->argc; i++) {
		key_get(call, i, MEMORY_TEXT, &key);
		if (key == NULL)
			continue;
		key_delete(call->redis, key);
		count++;
		call->redis->writes++;
	}
	return reply_int(call, count);
}

static redisReply *run_exists(struct memory_call *call)
{
	int64_t count = 0;
	struct memory_key *key;

	for (size_t i = 1; i < call->argc; i++) {
		key_get(call, i, MEMORY_TEXT, &key);
		count += key != NULL;
	}
	return reply_int(call, count);
}

static redisReply *run_type(struct memory_call *call)
{
	static const char *const names[] = { "string", "hash", "set", "zset", "stream" };
	redisReply *answer;
	struct memory_key *key;

	key_get(call, 1, MEMORY_TEXT, &key);
	answer = reply_str(call, key == NULL ? "none" : names[key->type]);
	answer->type = REDIS_REPLY_STATUS;
	return answer;
}

/* ---- hashes and sets ---- */

static struct memory_field *field_find(const struct memory_key *key, const struct memory_text *name)
{
	struct memory_field *field = NULL;

	if (key != NULL)
		HASH_FIND(hh, key->fields, name->data, name->length, field);
	return field;
}

/* True: it is new. */
static bool field_set(struct memory_key *key, const struct memory_text *name,
		      const struct memory_text *value)
{
	struct memory_field *field = field_find(key, name);
	bool fresh = field == NULL;

	if (fresh) {
		field = rt_alloc(sizeof(*field));
		field->name = text_copy(name->data, name->length);
		HASH_ADD_KEYPTR(hh, key->fields, field->name.data, field->name.length, field);
	}
	if (value != NULL) {
		free(field->value.data);
		field->value = text_copy(value->data, value->length);
	}
	return fresh;
}

static redisReply *fields_remove(struct memory_call *call, enum memory_type type)
{
	struct memory_key *key;
	int64_t count = 0;

	if (!key_get(call, 1, type, &key))
		return reply_error(call, ERROR_TYPE);
	for (size_t i = 2; key != NULL && i < call->argc; i++) {
		struct memory_field *field = field_find(key, &call->argv[i]);

		if (field == NULL)
			continue;
		HASH_DEL(key->fields, field);
		free(field->name.data);
		free(field->value.data);
		free(field);
		count++;
	}
	if (key != NULL && key->fields == NULL)
		key_delete(call->redis, key);
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

static redisReply *run_hset(struct memory_call *call)
{
	int64_t count = 0;
	struct memory_key *key;

	if (call->argc % 2 != 0)
		return reply_error(call, "ERR wrong number of arguments for 'hset' command");
	if (!key_make(call, 1, MEMORY_HASH, &key))
		return reply_error(call, ERROR_TYPE);
	for (size_t i = 2; i < call->argc; i += 2)
		count += field_set(key, &call->argv[i], &call->argv[i + 1]);
	call->redis->writes++;
	return reply_int(call, count);
}

static redisReply *hash_value(struct memory_call *call, const struct memory_key *key, size_t i)
{
	const struct memory_field *field = field_find(key, &call->argv[i]);

	return field == NULL ? reply_nil(call) : reply_text(call, &field->value);
}

static redisReply *run_hget(struct memory_call *call)
{
	struct memory_key *key;

	if (!key_get(call, 1, MEMORY_HASH, &key))
		return reply_error(call, ERROR_TYPE);
	return hash_value(call, key, 2);
}

static redisReply *run_hmget(struct memory_call *call)
{
	redisReply *answer;
	struct memory_key *key;

	if (!key_get(call, 1, MEMORY_HASH, &key))
		return reply_error(call, ERROR_TYPE);
	answer = reply_array(call, call->argc);
	for (size_t i = 2; i < call->argc; i++)
		reply_push(answer, hash_value(call, key, i));
	return answer;
}

static redisReply *run_hgetall(struct memory_call *call)
{
	redisReply *answer;
	struct memory_key *key;

	if (!key_get(call, 1, MEMORY_HASH, &key))
		return reply_error(call, ERROR_TYPE);
	answer = reply_array(call, key == NULL ? 0 : 2 * HASH_COUNT(key->fields));
	for (struct memory_field *at = key == NULL ? NULL : key->fields; at != NULL;
	     at = at->hh.next) {
		reply_push(answer, reply_text(call, &at->name));
		reply_push(answer, reply_text(call, &at->value));
	}
	return answer;
}

static redisReply *run_hdel(struct memory_call *call)
{
	return fields_remove(call, MEMORY_HASH);
}

static redisReply *run_sadd(struct memory_call *call)
{
	int64_t count = 0;
	struct memory_key *key;

	if (!key_make(call, 1, MEMORY_SET, &key))
		return reply_error(call, ERROR_TYPE);
	for (size_t i = 2; i < call->argc; i++)
		count += field_set(key, &call->argv[i], NULL);
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

static redisReply *run_srem(struct memory_call *call)
{
	return fields_remove(call, MEMORY_SET);
}

static redisReply *run_sismember(struct memory_call *call)
{
	struct memory_key *key;

	if (!key_get(call, 1, MEMORY_SET, &key))
		return reply_error(call, ERROR_TYPE);
	return reply_int(call, field_find(key, &call->argv[2]) != NULL);
}

/* ---- sorted sets ---- */

static int compare_texts(const struct memory_text *a, const struct memory_text *b)
{
	int order = memcmp(a->data, b->data, RT_MIN(a->length, b->length));

	if (order != 0)
		return order;
	return a->length < b->length ? -1 : a->length > b->length;
}

static size_t zset_index(const struct memory_zset *zset, const struct memory_text *member)
{
	size_t at = 0;

	while (at < zset->count && !text_same(&zset->entries[at].member, member))
		at++;
	return at;
}

/* Where it belongs. */
static size_t zset_place(const struct memory_zset *zset, double score,
			 const struct memory_text *member)
{
	size_t from = 0, to = zset->count;

	while (from < to) {
		size_t middle = from + (to - from) / 2;
		const struct memory_scored *entry = &zset->entries[middle];

		if (entry->score < score ||
		    (!(entry->score > score) && compare_texts(&entry->member, member) < 0))
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static struct memory_scored zset_take(struct memory_zset *zset, size_t at)
{
	struct memory_scored entry = zset->entries[at];

	zset->count--;
	memmove(&zset->entries[at], &zset->entries[at + 1],
		(zset->count - at) * sizeof(*zset->entries));
	return entry;
}

/* True: it is new. */
static bool zset_set(struct memory_zset *zset, double score, const struct memory_text *member)
{
	size_t at = zset_index(zset, member);
	bool fresh = at == zset->count;
	struct memory_scored entry = { .score = score };

	entry.member = fresh ? text_copy(member->data, member->length) : zset_take(zset, at).member;
	if (zset->count == zset->capacity) {
		zset->capacity = RT_MAX(zset->capacity * 2, 16);
		zset->entries = rt_realloc(zset->entries, zset->capacity * sizeof(*zset->entries));
	}
	at = zset_place(zset, score, member);
	memmove(&zset->entries[at + 1], &zset->entries[at],
		(zset->count - at) * sizeof(*zset->entries));
	zset->entries[at] = entry;
	zset->count++;
	return fresh;
}

bool memory_zset_score(const struct memory_zset *zset, const char *member, double *ret)
{
	const struct memory_text text = { (char *)(uintptr_t)member, strlen(member) };
	size_t at = zset_index(zset, &text);

	if (at < zset->count)
		*ret = zset->entries[at].score;
	return at < zset->count;
}

static bool parse_score(const char *text, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && *end == '\0' && !isnan(*ret);
}

static redisReply *run_zadd(struct memory_call *call)
{
	struct memory_key *key;
	int64_t count = 0;
	double score;

	if (call->argc % 2 != 0)
		return reply_error(call, ERROR_SYNTAX);
	for (size_t i = 2; i < call->argc; i += 2)
		if (!parse_score(call->argv[i].data, &score))
			return reply_error(call, "ERR value is not a valid float");
	if (!key_make(call, 1, MEMORY_ZSET, &key))
		return reply_error(call, ERROR_TYPE);
	for (size_t i = 2; i < call->argc; i += 2) {
		parse_score(call->argv[i].data, &score);
		count += zset_set(&key->zset, score, &call->argv[i + 1]);
	}
	call->redis->writes++;
	return reply_int(call, count);
}

static redisReply *run_zrem(struct memory_call *call)
{
	struct memory_key *key;
	int64_t count = 0;

	if (!key_get(call, 1, MEMORY_ZSET, &key))
		return reply_error(call, ERROR_TYPE);
	for (size_t i = 2; key != NULL && i < call->argc; i++) {
		size_t at = zset_index(&key->zset, &call->argv[i]);

		if (at == key->zset.count)
			continue;
		free(zset_take(&key->zset, at).member.data);
		count++;
	}
	if (key != NULL && key->zset.count == 0)
		key_delete(call->redis, key);
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

static redisReply *run_zcard(struct memory_call *call)
{
	struct memory_key *key;

	if (!key_get(call, 1, MEMORY_ZSET, &key))
		return reply_error(call, ERROR_TYPE);
	return reply_int(call, key == NULL ? 0 : (int64_t)key->zset.count);
}

static redisReply *score_text(struct memory_call *call, double score)
{
	char text[40];

	snprintf(text, sizeof(text), "%.17g", score);
	return reply_str(call, text);
}

static redisReply *run_zscore(struct memory_call *call)
{
	struct memory_key *key;
	double score;

	if (!key_get(call, 1, MEMORY_ZSET, &key))
		return reply_error(call, ERROR_TYPE);
	if (key == NULL || !memory_zset_score(&key->zset, call->argv[2].data, &score))
		return reply_nil(call);
	return score_text(call, score);
}

static redisReply *run_zrevrank(struct memory_call *call)
{
	struct memory_key *key;
	size_t at;

	if (!key_get(call, 1, MEMORY_ZSET, &key))
		return reply_error(call, ERROR_TYPE);
	at = key == NULL ? 0 : zset_index(&key->zset, &call->argv[2]);
	if (key == NULL || at == key->zset.count)
		return reply_nil(call);
	return reply_int(call, (int64_t)(key->zset.count - 1 - at));
}

/* Members [from, to) as they lie, or backwards from the last. */
struct slice {
	int64_t from, to;
	bool backwards, with_scores;
	int64_t offset, count; /* LIMIT; count -1: all */
};

static redisReply *zset_slice(struct memory_call *call, const struct memory_zset *zset,
			      struct slice slice)
{
	int64_t length = RT_MAX(slice.to - slice.from, 0);
	redisReply *answer = reply_array(call, 2 * (size_t)length);

	for (int64_t i = slice.offset; i >= 0 && i < length && slice.count != 0; i++) {
		const struct memory_scored *entry =
			&zset->entries[slice.backwards ? slice.to - 1 - i : slice.from + i];

		reply_push(answer, reply_text(call, &entry->member));
		if (slice.with_scores)
			reply_push(answer, score_text(call, entry->score));
		slice.count -= slice.count > 0;
	}
	return answer;
}

/* By index, which counts from the end where it is negative. */
static redisReply *zset_by_index(struct memory_call *call, bool backwards)
{
	struct slice slice = { .backwards = backwards, .count = -1 };
	struct memory_key *key;
	int64_t start, stop, count;

	if (!arg_int(call, 2, &start) || !arg_int(call, 3, &stop))
		return reply_error(call, ERROR_INT);
	slice.with_scores = arg_is(call, 4, "WITHSCORES");
	if (call->argc > 4u + slice.with_scores)
		return reply_error(call, ERROR_SYNTAX);
	if (!key_get(call, 1, MEMORY_ZSET, &key))
		return reply_error(call, ERROR_TYPE);
	count = key == NULL ? 0 : (int64_t)key->zset.count;
	start = RT_MAX(start < 0 ? start + count : start, 0);
	stop = RT_MIN(stop < 0 ? stop + count : stop, count - 1);
	slice.from = backwards ? count - 1 - stop : start;
	slice.to = backwards ? count - start : stop + 1;
	return zset_slice(call, key == NULL ? NULL : &key->zset, slice);
}

static redisReply *run_zrange(struct memory_call *call)
{
	return zset_by_index(call, false);
}

static redisReply *run_zrevrange(struct memory_call *call)
{
	return zset_by_index(call, true);
}

/* A bound of ZRANGEBYSCORE: the index of the first member that is not below it; with `above`, of the
 * first that is above it. */
static bool score_bound(const struct memory_zset *zset, const char *text, bool above, int64_t *ret)
{
	bool exclusive = text[0] == '(';
	double score;
	size_t at = 0;

	if (!parse_score(text + exclusive, &score))
		return false;
	while (zset != NULL && at < zset->count &&
	       (zset->entries[at].score < score ||
		(!(zset->entries[at].score > score) && exclusive != above)))
		at++;
	*ret = (int64_t)at;
	return true;
}

static bool lex_bound(const struct memory_zset *zset, const struct memory_text *text, bool above,
		      int64_t *ret)
{
	const struct memory_text rest = { text->data + 1, text->length - 1 };
	size_t at = 0;

	if (text->data[0] != '[' && text->data[0] != '(') {
		*ret = text->data[0] == '+' && zset != NULL ? (int64_t)zset->count : 0;
		return strcmp(text->data, "-") == 0 || strcmp(text->data, "+") == 0;
	}
	while (zset != NULL && at < zset->count) {
		int order = compare_texts(&zset->entries[at].member, &rest);

		if (order > 0 || (order == 0 && (text->data[0] == '(') == above))
			break;
		at++;
	}
	*ret = (int64_t)at;
	return true;
}

/* key min max [LIMIT offset count]; backwards: key max min … */
static redisReply *zset_by_bounds(struct memory_call *call, bool backwards, bool by_score)
{
	struct slice slice = { .backwards = backwards, .count = -1 };
	const struct memory_text *min = &call->argv[backwards ? 3 : 2],
				 *max = &call->argv[backwards ? 2 : 3];
	const struct memory_zset *zset;
	struct memory_key *key;
	bool good;

	if (call->argc != 4 && (call->argc != 7 || !arg_is(call, 4, "LIMIT")))
		return reply_error(call, ERROR_SYNTAX);
	if (call->argc == 7 &&
	    (!arg_int(call, 5, &slice.offset) || !arg_int(call, 6, &slice.count)))
		return reply_error(call, ERROR_INT);
	good = key_get(call, 1, MEMORY_ZSET, &key);
	zset = good && key != NULL ? &key->zset : NULL;
	if (by_score ? !score_bound(zset, min->data, false, &slice.from) ||
			       !score_bound(zset, max->data, true, &slice.to)
		     : !lex_bound(zset, min, false, &slice.from) ||
			       !lex_bound(zset, max, true, &slice.to))
		return reply_error(call, by_score ? "ERR min or max is not a float"
						  : "ERR min or max not valid string range item");
	return good ? zset_slice(call, zset, slice) : reply_error(call, ERROR_TYPE);
}

static redisReply *run_zrangebyscore(struct memory_call *call)
{
	return zset_by_bounds(call, false, true);
}

static redisReply *run_zrevrangebyscore(struct memory_call *call)
{
	return zset_by_bounds(call, true, true);
}

static redisReply *run_zrangebylex(struct memory_call *call)
{
	return zset_by_bounds(call, false, false);
}

/* ---- the server ---- */

static redisReply *run_ok(struct memory_call *call)
{
	return reply_ok(call);
}

static redisReply *run_ping(struct memory_call *call)
{
	redisReply *answer = reply_str(call, "PONG");

	answer->type = REDIS_REPLY_STATUS;
	return answer;
}

static redisReply *run_info(struct memory_call *call)
{
	return reply_str(call, call->redis->memory_full
				       ? "# Memory\r\nused_memory:2000\r\nmaxmemory:1000\r\n"
					 "mem_not_counted_for_evict:0\r\n"
				       : "# Memory\r\nused_memory:1000\r\nmaxmemory:0\r\n"
					 "mem_not_counted_for_evict:0\r\n");
}

static redisReply *run_time(struct memory_call *call)
{
	redisReply *answer = reply_array(call, 2);
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)call->now_ms / 1000);
	reply_push(answer, reply_str(call, text));
	snprintf(text, sizeof(text), "%lld", (long long)call->now_ms % 1000 * 1000);
	reply_push(answer, reply_str(call, text));
	return answer;
}

/* By name. */
static const struct memory_command commands[] = {
	{ "CLIENT", -2, CMD_NOSCRIPT, 0, 0, run_ok },
	{ "DEL", -2, CMD_WRITE, 1, -1, run_del },
	{ "EXISTS", -2, 0, 1, -1, run_exists },
	{ "FCALL", -3, CMD_NOSCRIPT, 0, 0, run_fcall },
	{ "FCALL_RO", -3, CMD_NOSCRIPT, 0, 0, run_fcall_ro },
	{ "FUNCTION", -2, CMD_NOSCRIPT, 0, 0, run_function },
	{ "GET", 2, 0, 1, 1, run_get },
	{ "HDEL", -3, CMD_WRITE, 1, 1, run_hdel },
	{ "HGET", 3, 0, 1, 1, run_hget },
	{ "HGETALL", 2, 0, 1, 1, run_hgetall },
	{ "HMGET", -3, 0, 1, 1, run_hmget },
	{ "HSET", -4, CMD_WRITE | CMD_DENYOOM, 1, 1, run_hset },
	{ "INFO", -1, 0, 0, 0, run_info },
	{ "MGET", -2, 0, 1, -1, run_mget },
	{ "PING", -1, 0, 0, 0, run_ping },
	{ "SADD", -3, CMD_WRITE | CMD_DENYOOM, 1, 1, run_sadd },
	{ "SET", -3, CMD_WRITE | CMD_DENYOOM, 1, 1, run_set },
	{ "SISMEMBER", 3, 0, 1, 1, run_sismember },
	{ "SREM", -3, CMD_WRITE, 1, 1, run_srem },
	{ "TIME", 1, 0, 0, 0, run_time },
	{ "TYPE", 2, 0, 1, 1, run_type },
	{ "XACK", -4, CMD_WRITE, 1, 1, run_xack },
	{ "XADD", -5, CMD_WRITE | CMD_DENYOOM, 1, 1, run_xadd },
	{ "XAUTOCLAIM", -6, CMD_WRITE, 1, 1, run_xautoclaim },
	{ "XCLAIM", -6, CMD_WRITE, 1, 1, run_xclaim },
	{ "XDEL", -3, CMD_WRITE, 1, 1, run_xdel },
	{ "XGROUP", -2, CMD_WRITE, 2, 2, run_xgroup },
	{ "XINFO", -2, 0, 2, 2, run_xinfo },
	{ "XLEN", 2, 0, 1, 1, run_xlen },
	{ "XPENDING", -3, 0, 1, 1, run_xpending },
	{ "XRANGE", -4, 0, 1, 1, run_xrange },
	{ "XREAD", -4, 0, 0, 0, run_xread },
	{ "XREADGROUP", -7, CMD_WRITE, 0, 0, run_xreadgroup },
	{ "XREVRANGE", -4, 0, 1, 1, run_xrevrange },
	{ "XTRIM", -4, CMD_WRITE, 1, 1, run_xtrim },
	{ "ZADD", -4, CMD_WRITE | CMD_DENYOOM, 1, 1, run_zadd },
	{ "ZCARD", 2, 0, 1, 1, run_zcard },
	{ "ZRANGE", -4, 0, 1, 1, run_zrange },
	{ "ZRANGEBYLEX", -4, 0, 1, 1, run_zrangebylex },
	{ "ZRANGEBYSCORE", -4, 0, 1, 1, run_zrangebyscore },
	{ "ZREM", -3, CMD_WRITE, 1, 1, run_zrem },
	{ "ZREVRANGE", -4, 0, 1, 1, run_zrevrange },
	{ "ZREVRANGEBYSCORE", -4, 0, 1, 1, run_zrevrangebyscore },
	{ "ZREVRANK", 3, 0, 1, 1, run_zrevrank },
	{ "ZSCORE", 3, 0, 1, 1, run_zscore },
};

static int by_name(const void *name, const void *command)
{
	return strcasecmp(name, ((const struct memory_command *)command)->name);
}

const struct memory_command *memory_command_find(const char *name)
{
	return bsearch(name, commands, RT_LENGTH(commands), sizeof(commands[0]), by_name);
}

bool memory_arity_fits(int arity, size_t argc)
{
	return arity >= 0 ? argc == (size_t)arity : argc >= (size_t)-arity;
}

void memory_command_keys(const struct memory_command *command, const struct memory_call *call,
			 void (*visit)(const struct memory_text *key, void *user), void *user)
{
	size_t last = command->key_last < 0 ? call->argc - 1 : (size_t)command->key_last;

	for (size_t i = (size_t)command->key; i > 0 && i <= last && i < call->argc; i++)
		visit(&call->argv[i], user);
	for (size_t i = 1; command->key == 0 && i + 1 < call->argc; i++)
		if (arg_is(call, i, "STREAMS"))
			visit(&call->argv[i + 1], user);
}

static redisReply *run(struct memory_call *call)
{
	const struct memory_command *command = memory_command_find(call->argv[0].data);
	char name[32];

	if (command == NULL)
		return reply_error(call, "ERR unknown command '%s', with args beginning with: ",
				   call->argv[0].data);
	if (!memory_arity_fits(command->arity, call->argc)) {
		snprintf(name, sizeof(name), "%s", command->name);
		for (char *c = name; *c != '\0'; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
		return reply_error(call, "ERR wrong number of arguments for '%s' command", name);
	}
	if ((command->flags & CMD_DENYOOM) != 0 && call->redis->memory_full)
		return reply_error(call, ERROR_OOM);
	return command->run(call);
}

redisReply *memory_run(struct memory_redis *redis, struct rt_arena *arena, size_t argc,
		       const struct memory_text *argv)
{
	struct memory_call call = { .redis = redis,
				    .arena = arena,
				    .argc = argc,
				    .argv = argv,
				    .now_ms = rt_loop_unix_ms(redis->loop) };
	uint64_t writes = redis->writes;
	redisReply *answer = run(&call);

	if (redis->writes != writes)
		memory_changed(redis);
	return answer;
}
