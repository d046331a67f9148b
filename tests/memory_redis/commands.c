/* commands.c - the table of commands; texts, hashes, sets and sorted sets. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "internal.h"

/* ---- texts ---- */

static redisReply *run_get(struct memory_call *call)
{
	return call->key == NULL ? reply_nil(call) : reply_text(call, &call->key->text);
}

static redisReply *run_mget(struct memory_call *call)
{
	redisReply *answer = reply_array(call, call->argc);

	for (size_t i = 1; i < call->argc; i++) {
		const struct memory_key *key = key_find(call, i);

		reply_push(answer, key != NULL && key->type == MEMORY_TEXT
					   ? reply_text(call, &key->text)
					   : reply_nil(call));
	}
	return answer;
}

/* SET key value [PX ms] */
static redisReply *run_set(struct memory_call *call)
{
	bool expires = call->argc == 5 && arg_is(call, 3, "PX");
	int64_t expire_ms = 0;
	struct memory_key *key;

	if (call->argc != 3 && !expires)
		return reply_error(call, ERROR_SYNTAX);
	if (expires && !arg_int(call, 4, &expire_ms))
		return call->error;
	if (expires && expire_ms <= 0)
		return reply_error(call, "ERR invalid expire time in 'set' command");
	if (call->key != NULL)
		key_delete(call->redis, RT_TAKE(call->key));
	key = key_make(call);
	key->text = text_copy(call->argv[2].data, call->argv[2].length);
	key->expire_ms = expires ? call->now_ms + expire_ms : 0;
	call->redis->writes++;
	call->redis->news++;
	return reply_ok(call);
}

/* Whether the arguments from 2 on are "GET u1 <offset>", and "SET u1 <offset> <0 or 1>" unless it only reads. *ret_end: behind the
 * highest bit that is set. */
static bool bits_good(struct memory_call *call, bool only_reads, int64_t *ret_end)
{
	int64_t offset, value;

	*ret_end = 0;
	for (size_t i = 2; i < call->argc;) {
		bool sets = arg_is(call, i, "SET");

		if ((!sets && !arg_is(call, i, "GET")) || i + 2 + sets >= call->argc ||
		    !arg_is(call, i + 1, "u1"))
			return fail(call, ERROR_SYNTAX);
		if (!arg_int(call, i + 2, &offset) || offset < 0)
			return fail(call, "ERR bit offset is not an integer or out of range");
		if (sets && only_reads)
			return fail(call, "ERR BITFIELD_RO only supports the GET subcommand");
		if (sets && !arg_int(call, i + 3, &value))
			return false;
		if (sets)
			*ret_end = RT_MAX(*ret_end, offset + 1);
		i += sets ? 4 : 3;
	}
	return true;
}

static redisReply *run_bits(struct memory_call *call, bool only_reads)
{
	redisReply *answer = reply_array(call, call->argc);
	struct memory_text *text;
	size_t bytes;
	int64_t end;

	if (!bits_good(call, only_reads, &end) || !key_fits(call))
		return call->error;
	bytes = (size_t)(end + 7) / 8;
	text = end > 0 ? &key_make(call)->text : call->key != NULL ? &call->key->text : NULL;
	if (text != NULL && text->length < bytes) {
		text->data = rt_realloc(text->data, bytes + 1);
		memset(text->data + text->length, 0, bytes + 1 - text->length);
		text->length = bytes;
	}
	for (size_t i = 2; i < call->argc;) {
		bool sets = arg_is(call, i, "SET");
		uint64_t offset = strtoull(call->argv[i + 2].data, NULL, 10);
		unsigned int mask = 0x80U >> offset % 8;
		bool known = text != NULL && offset / 8 < text->length;

		reply_push(answer, reply_int(call, known && ((unsigned char)text->data[offset / 8] &
							     mask) != 0));
		if (sets && call->argv[i + 3].data[0] == '1')
			text->data[offset / 8] = (char)(text->data[offset / 8] | (int)mask);
		else if (sets)
			text->data[offset / 8] = (char)(text->data[offset / 8] & ~(int)mask);
		i += sets ? 4 : 3;
	}
	call->redis->writes += end > 0;
	call->redis->news += end > 0;
	return answer;
}

static redisReply *run_bitfield(struct memory_call *call)
{
	return run_bits(call, false);
}

static redisReply *run_bitfield_ro(struct memory_call *call)
{
	return run_bits(call, true);
}

/* ---- any type ---- */

static redisReply *run_del(struct memory_call *call)
{
	int64_t count = 0;

	for (size_t i = 1; i < call->argc; i++) {
		struct memory_key *key = key_find(call, i);

		if (key == NULL)
			continue;
		key_delete(call->redis, key);
		count++;
		call->redis->writes++;
		call->redis->news++;
	}
	return reply_int(call, count);
}

static redisReply *run_exists(struct memory_call *call)
{
	int64_t count = 0;

	for (size_t i = 1; i < call->argc; i++)
		count += key_find(call, i) != NULL;
	return reply_int(call, count);
}

static redisReply *run_type(struct memory_call *call)
{
	static const char *const names[] = { "string", "hash", "set", "zset", "stream" };

	return reply_status(call, call->key == NULL ? "none" : names[call->key->type]);
}

/* ---- hashes and sets ---- */

static struct memory_field *field_find(const struct memory_key *key, const struct memory_text *name)
{
	struct memory_field *field = NULL;

	if (key != NULL)
		HASH_FIND(hh, key->fields, name->data, name->length, field);
	return field;
}

/* Returns whether the field is new. */
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
	free(field->value.data);
	field->value = text_copy(value->data, value->length);
	return fresh;
}

static redisReply *run_hset(struct memory_call *call)
{
	int64_t count = 0;

	if (call->argc % 2 != 0)
		return reply_error(call, "ERR wrong number of arguments for 'hset' command");
	if (!key_fits(call))
		return call->error;
	for (size_t i = 2; i < call->argc; i += 2)
		count += field_set(key_make(call), &call->argv[i], &call->argv[i + 1]);
	call->redis->writes++;
	return reply_int(call, count);
}

static redisReply *run_hincrby(struct memory_call *call)
{
	struct memory_field *field;
	struct memory_text value;
	int64_t by, n = 0;
	char number[32], *end;

	if (!arg_int(call, 3, &by) || !key_fits(call))
		return call->error;
	field = field_find(call->key, &call->argv[2]);
	if (field != NULL) {
		n = strtoll(field->value.data, &end, 10);
		if (field->value.length == 0 || *end != '\0')
			return reply_error(call, "ERR hash value is not an integer");
	}
	n += by;
	value.length = (size_t)snprintf(number, sizeof(number), "%" PRId64, n);
	value.data = number;
	field_set(key_make(call), &call->argv[2], &value);
	call->redis->writes++;
	return reply_int(call, n);
}

static redisReply *hash_value(struct memory_call *call, size_t i)
{
	const struct memory_field *field = field_find(call->key, &call->argv[i]);

	return field == NULL ? reply_nil(call) : reply_text(call, &field->value);
}

static redisReply *run_hget(struct memory_call *call)
{
	return hash_value(call, 2);
}

static redisReply *run_hmget(struct memory_call *call)
{
	redisReply *answer = reply_array(call, call->argc);

	for (size_t i = 2; i < call->argc; i++)
		reply_push(answer, hash_value(call, i));
	return answer;
}

static redisReply *run_hgetall(struct memory_call *call)
{
	struct memory_field *field = call->key == NULL ? NULL : call->key->fields;
	redisReply *answer = reply_array(call, 2 * HASH_COUNT(field));

	for (; field != NULL; field = field->hh.next) {
		reply_push(answer, reply_text(call, &field->name));
		reply_push(answer, reply_text(call, &field->value));
	}
	return answer;
}

/* All at once, as Redis does with a small hash. */
static redisReply *run_hscan(struct memory_call *call)
{
	redisReply *answer = reply_array(call, 2);

	reply_push(answer, reply_str(call, "0"));
	reply_push(answer, run_hgetall(call));
	return answer;
}

/* HDEL, SREM. */
static redisReply *run_remove(struct memory_call *call)
{
	int64_t count = 0;

	for (size_t i = 2; i < call->argc; i++) {
		struct memory_field *field = field_find(call->key, &call->argv[i]);

		if (field == NULL)
			continue;
		HASH_DEL(call->key->fields, field);
		free(field->name.data);
		free(field->value.data);
		free(field);
		count++;
	}
	if (call->key != NULL && call->key->fields == NULL)
		key_delete(call->redis, RT_TAKE(call->key));
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

static redisReply *run_sadd(struct memory_call *call)
{
	int64_t count = 0;

	for (size_t i = 2; i < call->argc; i++)
		count += field_set(key_make(call), &call->argv[i], &call->argv[i]);
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

static redisReply *run_sismember(struct memory_call *call)
{
	return reply_int(call, field_find(call->key, &call->argv[2]) != NULL);
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

/* The index at which it belongs. */
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

/* Returns whether the member is new. */
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

static const struct memory_zset *zset_of(const struct memory_call *call)
{
	static const struct memory_zset none;

	return call->key == NULL ? &none : &call->key->zset;
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
	int64_t count = 0;
	double score;

	if (call->argc % 2 != 0)
		return reply_error(call, ERROR_SYNTAX);
	for (size_t i = 2; i < call->argc; i += 2)
		if (!parse_score(call->argv[i].data, &score))
			return reply_error(call, "ERR value is not a valid float");
	if (!key_fits(call))
		return call->error;
	for (size_t i = 2; i < call->argc; i += 2) {
		parse_score(call->argv[i].data, &score);
		count += zset_set(&key_make(call)->zset, score, &call->argv[i + 1]);
	}
	call->redis->writes++;
	return reply_int(call, count);
}

static redisReply *run_zrem(struct memory_call *call)
{
	int64_t count = 0;

	for (size_t i = 2; call->key != NULL && i < call->argc; i++) {
		size_t at = zset_index(&call->key->zset, &call->argv[i]);

		if (at == call->key->zset.count)
			continue;
		free(zset_take(&call->key->zset, at).member.data);
		count++;
	}
	if (call->key != NULL && call->key->zset.count == 0)
		key_delete(call->redis, RT_TAKE(call->key));
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

static redisReply *run_zcard(struct memory_call *call)
{
	return reply_int(call, (int64_t)zset_of(call)->count);
}

static redisReply *run_zrevrank(struct memory_call *call)
{
	const struct memory_zset *zset = zset_of(call);
	size_t at = zset_index(zset, &call->argv[2]);

	return at == zset->count ? reply_nil(call)
				 : reply_int(call, (int64_t)(zset->count - 1 - at));
}

/* Members [from, to) in order, or backwards from the last. */
struct slice {
	int64_t from, to;
	bool backwards, with_scores;
	int64_t offset, count; /* LIMIT; count -1: all */
};

static redisReply *zset_slice(struct memory_call *call, struct slice slice)
{
	int64_t length = RT_MAX(slice.to - slice.from, 0);
	redisReply *answer = reply_array(call, 2 * (size_t)length);
	char text[NUMBER_TEXT];

	for (int64_t i = slice.offset; i >= 0 && i < length && slice.count != 0; i++) {
		const struct memory_scored *entry =
			&zset_of(call)
				 ->entries[slice.backwards ? slice.to - 1 - i : slice.from + i];

		reply_push(answer, reply_text(call, &entry->member));
		if (slice.with_scores) {
			number_text(entry->score, text);
			reply_push(answer, reply_str(call, text));
		}
		slice.count -= slice.count > 0;
	}
	return answer;
}

/* ZRANGE, ZREVRANGE: by index; a negative one counts from the end. */
static redisReply *run_zrange(struct memory_call *call)
{
	bool backwards = strstr(call->command->name, "REV") != NULL;
	struct slice slice = { .backwards = backwards, .count = -1 };
	int64_t start, stop, count;

	if (!arg_int(call, 2, &start) || !arg_int(call, 3, &stop))
		return call->error;
	slice.with_scores = arg_is(call, 4, "WITHSCORES");
	if (call->argc > 4u + slice.with_scores)
		return reply_error(call, ERROR_SYNTAX);
	if (!key_fits(call))
		return call->error;
	count = (int64_t)zset_of(call)->count;
	start = RT_MAX(start < 0 ? start + count : start, 0);
	stop = RT_MIN(stop < 0 ? stop + count : stop, count - 1);
	slice.from = backwards ? count - 1 - stop : start;
	slice.to = backwards ? count - start : stop + 1;
	return zset_slice(call, slice);
}

/* A bound of ZRANGEBYSCORE: the index of the first member that is not below it; with `above`, of the
 * first that is above it. */
static bool score_bound(const struct memory_zset *zset, const struct memory_text *text, bool above,
			int64_t *ret)
{
	bool exclusive = text->data[0] == '(';
	double score;

	*ret = 0;
	if (!parse_score(text->data + exclusive, &score))
		return false;
	while (*ret < (int64_t)zset->count &&
	       (zset->entries[*ret].score < score ||
		(!(zset->entries[*ret].score > score) && exclusive != above)))
		++*ret;
	return true;
}

/* The same of ZRANGEBYLEX. */
static bool lex_bound(const struct memory_zset *zset, const struct memory_text *text, bool above,
		      int64_t *ret)
{
	const struct memory_text rest = { text->data + 1, text->length - 1 };
	bool exclusive = text->data[0] == '(';

	*ret = text->data[0] == '+' ? (int64_t)zset->count : 0;
	if (!exclusive && text->data[0] != '[')
		return strcmp(text->data, "-") == 0 || strcmp(text->data, "+") == 0;
	for (; *ret < (int64_t)zset->count; ++*ret) {
		int order = compare_texts(&zset->entries[*ret].member, &rest);

		if (order > 0 || (order == 0 && exclusive == above))
			break;
	}
	return true;
}

/* ZRANGEBYSCORE, ZRANGEBYLEX key min max [LIMIT offset count]; ZREVRANGEBYSCORE key max min … */
static redisReply *run_zrangeby(struct memory_call *call)
{
	static const struct memory_zset none;
	bool backwards = strstr(call->command->name, "REV") != NULL;
	bool by_score = strstr(call->command->name, "SCORE") != NULL;
	bool (*bound)(const struct memory_zset *zset, const struct memory_text *text, bool above,
		      int64_t *ret) = by_score ? score_bound : lex_bound;
	struct slice slice = { .backwards = backwards, .count = -1 };
	const struct memory_zset *zset =
		call->key != NULL && call->key->type == MEMORY_ZSET ? &call->key->zset : &none;

	if (call->argc != 4 && (call->argc != 7 || !arg_is(call, 4, "LIMIT")))
		return reply_error(call, ERROR_SYNTAX);
	if (call->argc == 7 &&
	    (!arg_int(call, 5, &slice.offset) || !arg_int(call, 6, &slice.count)))
		return call->error;
	if (!bound(zset, &call->argv[backwards ? 3 : 2], false, &slice.from) ||
	    !bound(zset, &call->argv[backwards ? 2 : 3], true, &slice.to))
		return reply_error(call, by_score ? "ERR min or max is not a float"
						  : "ERR min or max not valid string range item");
	return key_fits(call) ? zset_slice(call, slice) : call->error;
}

/* ZREMRANGEBYSCORE key min max */
static redisReply *run_zremrangebyscore(struct memory_call *call)
{
	static const struct memory_zset none;
	const struct memory_zset *zset =
		call->key != NULL && call->key->type == MEMORY_ZSET ? &call->key->zset : &none;
	int64_t from, to, count;

	if (!score_bound(zset, &call->argv[2], false, &from) ||
	    !score_bound(zset, &call->argv[3], true, &to))
		return reply_error(call, "ERR min or max is not a float");
	if (!key_fits(call))
		return call->error;
	count = RT_MAX(to - from, 0);
	for (int64_t i = 0; i < count; i++)
		free(zset_take(&call->key->zset, (size_t)from).member.data);
	if (call->key != NULL && call->key->zset.count == 0)
		key_delete(call->redis, RT_TAKE(call->key));
	call->redis->writes += count > 0;
	return reply_int(call, count);
}

/* ---- the server ---- */

static redisReply *run_info(struct memory_call *call)
{
	if (call->argc > 1 && strcasecmp(call->argv[1].data, "replication") == 0) {
		char text[64];

		snprintf(text, sizeof(text), "# Replication\r\nmaster_replid:%016" PRIx64 "\r\n",
			 call->redis->masters[call->master].history);
		return reply_str(call, text);
	}
	return reply_str(call, call->redis->memory_full
				       ? "# Memory\r\nused_memory:2\r\nmaxmemory:1\r\n"
				       : "# Memory\r\nused_memory:2\r\nmaxmemory:0\r\n");
}

/* Sorted by name. */
static const struct memory_command commands[] = {
	{ "BITFIELD", -2, CMD_WRITE | CMD_DENYOOM | CMD_LATE, 1, 1, MEMORY_TEXT, run_bitfield },
	{ "BITFIELD_RO", -2, CMD_LATE, 1, 1, MEMORY_TEXT, run_bitfield_ro },
	{ "DEL", -2, CMD_WRITE | CMD_ANY, 1, -1, 0, run_del },
	{ "EXISTS", -2, CMD_ANY, 1, -1, 0, run_exists },
	{ "FCALL", -3, CMD_NOSCRIPT, 0, 0, 0, run_fcall },
	{ "FUNCTION|LOAD", -3, CMD_NOSCRIPT, 0, 0, 0, run_function_load },
	{ "GET", 2, 0, 1, 1, MEMORY_TEXT, run_get },
	{ "HDEL", -3, CMD_WRITE, 1, 1, MEMORY_HASH, run_remove },
	{ "HGET", 3, 0, 1, 1, MEMORY_HASH, run_hget },
	{ "HGETALL", 2, 0, 1, 1, MEMORY_HASH, run_hgetall },
	{ "HINCRBY", 4, CMD_WRITE | CMD_DENYOOM | CMD_LATE, 1, 1, MEMORY_HASH, run_hincrby },
	{ "HMGET", -3, 0, 1, 1, MEMORY_HASH, run_hmget },
	{ "HSCAN", -3, 0, 1, 1, MEMORY_HASH, run_hscan },
	{ "HSET", -4, CMD_WRITE | CMD_DENYOOM | CMD_LATE, 1, 1, MEMORY_HASH, run_hset },
	{ "INFO", -1, 0, 0, 0, 0, run_info },
	{ "MGET", -2, CMD_ANY, 1, -1, 0, run_mget },
	{ "SADD", -3, CMD_WRITE | CMD_DENYOOM, 1, 1, MEMORY_SET, run_sadd },
	{ "SET", -3, CMD_WRITE | CMD_DENYOOM | CMD_ANY, 1, 1, MEMORY_TEXT, run_set },
	{ "SISMEMBER", 3, 0, 1, 1, MEMORY_SET, run_sismember },
	{ "SREM", -3, CMD_WRITE, 1, 1, MEMORY_SET, run_remove },
	{ "TYPE", 2, CMD_ANY, 1, 1, 0, run_type },
	{ "XACK", -4, CMD_WRITE, 1, 1, MEMORY_STREAM, run_xack },
	{ "XADD", -5, CMD_WRITE | CMD_DENYOOM | CMD_LATE, 1, 1, MEMORY_STREAM, run_xadd },
	{ "XAUTOCLAIM", -6, CMD_WRITE | CMD_LATE, 1, 1, MEMORY_STREAM, run_xautoclaim },
	{ "XCLAIM", -6, CMD_WRITE, 1, 1, MEMORY_STREAM, run_xclaim },
	{ "XDEL", -3, CMD_WRITE, 1, 1, MEMORY_STREAM, run_xdel },
	{ "XGROUP|CREATE", -5, CMD_WRITE | CMD_DENYOOM, 2, 2, MEMORY_STREAM, run_xgroup_create },
	{ "XGROUP|CREATECONSUMER", 5, CMD_WRITE | CMD_DENYOOM, 2, 2, MEMORY_STREAM,
	  run_xgroup_createconsumer },
	{ "XGROUP|DELCONSUMER", 5, CMD_WRITE, 2, 2, MEMORY_STREAM, run_xgroup_delconsumer },
	{ "XGROUP|DESTROY", 4, CMD_WRITE, 2, 2, MEMORY_STREAM, run_xgroup_destroy },
	{ "XGROUP|SETID", -5, CMD_WRITE | CMD_LATE, 2, 2, MEMORY_STREAM, run_xgroup_setid },
	{ "XINFO|CONSUMERS", 4, 0, 2, 2, MEMORY_STREAM, run_xinfo_consumers },
	{ "XINFO|GROUPS", 3, 0, 2, 2, MEMORY_STREAM, run_xinfo_groups },
	{ "XINFO|STREAM", 3, 0, 2, 2, MEMORY_STREAM, run_xinfo_stream },
	{ "XLEN", 2, 0, 1, 1, MEMORY_STREAM, run_xlen },
	{ "XPENDING", -3, CMD_LATE, 1, 1, MEMORY_STREAM, run_xpending },
	{ "XRANGE", -4, CMD_LATE, 1, 1, MEMORY_STREAM, run_xrange },
	{ "XREAD", -4, CMD_LATE, 0, 0, MEMORY_STREAM, run_xread },
	{ "XREADGROUP", -7, CMD_WRITE | CMD_LATE, 0, 0, MEMORY_STREAM, run_xreadgroup },
	{ "XREVRANGE", -4, CMD_LATE, 1, 1, MEMORY_STREAM, run_xrange },
	{ "XTRIM", -4, CMD_WRITE | CMD_LATE, 1, 1, MEMORY_STREAM, run_xtrim },
	{ "ZADD", -4, CMD_WRITE | CMD_DENYOOM | CMD_LATE, 1, 1, MEMORY_ZSET, run_zadd },
	{ "ZCARD", 2, 0, 1, 1, MEMORY_ZSET, run_zcard },
	{ "ZRANGE", -4, CMD_LATE, 1, 1, MEMORY_ZSET, run_zrange },
	{ "ZRANGEBYLEX", -4, CMD_LATE, 1, 1, MEMORY_ZSET, run_zrangeby },
	{ "ZRANGEBYSCORE", -4, CMD_LATE, 1, 1, MEMORY_ZSET, run_zrangeby },
	{ "ZREM", -3, CMD_WRITE, 1, 1, MEMORY_ZSET, run_zrem },
	{ "ZREMRANGEBYSCORE", 4, CMD_WRITE | CMD_LATE, 1, 1, MEMORY_ZSET, run_zremrangebyscore },
	{ "ZREVRANGE", -4, CMD_LATE, 1, 1, MEMORY_ZSET, run_zrange },
	{ "ZREVRANGEBYSCORE", -4, CMD_LATE, 1, 1, MEMORY_ZSET, run_zrangeby },
	{ "ZREVRANK", 3, 0, 1, 1, MEMORY_ZSET, run_zrevrank },
};

/* As strcasecmp does; the names differ in their first letters, so a call takes longer than the comparison. */
static int by_name(const void *name, const void *command)
{
	const char *at = name, *other = ((const struct memory_command *)command)->name;

	while (*at != '\0' && (*at == *other || toupper((unsigned char)*at) == *other)) {
		at++;
		other++;
	}
	return toupper((unsigned char)*at) - (unsigned char)*other;
}

static const struct memory_command *command_find(const char *name)
{
	/* The one that was looked up last of those with such letters and length: nearly always the same. */
	static const struct memory_command *latest[256];
	size_t length = strlen(name);
	unsigned char place =
		(unsigned char)(name[0] * 31 + name[length == 0 ? 0 : length - 1] + (int)length);
	const struct memory_command **at = &latest[place];

	if (*at == NULL || by_name(name, *at) != 0)
		*at = bsearch(name, commands, RT_LENGTH(commands), sizeof(commands[0]), by_name);
	return *at;
}

static bool has_subcommands(const char *name)
{
	return strcasecmp(name, "XINFO") == 0 || strcasecmp(name, "XGROUP") == 0 ||
	       strcasecmp(name, "FUNCTION") == 0;
}

static redisReply *wrong_arity(struct memory_call *call, const char *name)
{
	char text[32];

	if (call->scripted)
		return reply_error(call,
				   "ERR Wrong number of args calling Redis command from script");
	snprintf(text, sizeof(text), "%s", name);
	for (char *c = text; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	return reply_error(call, "ERR wrong number of arguments for '%s' command", text);
}

redisReply *memory_call_begin(struct memory_call *call)
{
	const char *name = call->argv[0].data;
	const struct memory_command *command;
	bool subcommand = false;
	char both[64];

	call->command = command = command_find(name);
	if (command == NULL && has_subcommands(name) && call->argc > 1) {
		subcommand = true;
		snprintf(both, sizeof(both), "%s|%s", name, call->argv[1].data);
		name = both;
		call->command = command = command_find(name);
	}
	if (command == NULL && call->scripted)
		return reply_error(call, "ERR Unknown Redis command called from script");
	if (command == NULL && subcommand)
		return reply_error(call, "ERR unknown subcommand '%s'. Try %s HELP.",
				   call->argv[1].data, call->argv[0].data);
	if (command == NULL)
		return reply_error(call,
				   "ERR unknown command '%s', with args beginning with: ", name);
	if (command->arity >= 0 ? call->argc != (size_t)command->arity
				: call->argc < (size_t)-command->arity)
		return wrong_arity(call, command->name);
	return NULL;
}

redisReply *memory_call_run(struct memory_call *call)
{
	int key = call->command->key;

	call->key = key == 0 ? NULL : key_find(call, (size_t)key);
	if ((call->command->flags & (CMD_LATE | CMD_ANY)) == 0 && !key_fits(call))
		return call->error;
	return call->command->run(call);
}

void memory_call_keys(const struct memory_call *call,
		      void (*visit)(const struct memory_text *key, void *user), void *user)
{
	const struct memory_command *command = call->command;
	size_t last = command->key_last < 0 ? call->argc - 1 : (size_t)command->key_last;

	for (size_t i = (size_t)command->key; i > 0 && i <= last; i++)
		visit(&call->argv[i], user);
	for (size_t i = 1; command->key == 0 && i + 1 < call->argc; i++)
		if (arg_is(call, i, "STREAMS"))
			visit(&call->argv[i + 1], user);
}

redisReply *memory_run(struct memory_redis *redis, struct rt_arena *arena, size_t argc,
		       const struct memory_text *argv)
{
	struct memory_call call = { .redis = redis,
				    .arena = arena,
				    .argc = argc,
				    .argv = argv,
				    .now_ms = rt_loop_unix_ms(redis->loop) };
	uint64_t news = redis->news, writes = redis->writes;
	redisReply *answer = memory_call_begin(&call);

	if (answer == NULL && (call.command->flags & CMD_DENYOOM) != 0 && redis->memory_full)
		answer = reply_error(&call, ERROR_OOM);
	else if (answer == NULL)
		answer = memory_call_run(&call);
	if (redis->writes != writes && redis->on_write != NULL)
		redis->on_write(redis->user, argv);
	if (redis->news != news)
		memory_changed(redis);
	return answer;
}
