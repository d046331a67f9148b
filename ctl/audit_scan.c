/* audit_scan.c - scans keys, collects ids, and tells whether what was read has changed. */
#include <string.h>
#include <uthash.h>

#include "audit.h"
#include "base/base.h"

#define PAGE "500"

/* ---- ids ---- */

struct audit_id {
	UT_hash_handle hh;
	char id[];
};

bool audit_ids_have(const struct audit_ids *ids, const char *id)
{
	struct audit_id *found;

	HASH_FIND_STR(ids->first, id, found);
	return found != NULL;
}

bool audit_ids_add(struct audit_ids *ids, const char *id)
{
	size_t length = strlen(id);
	struct audit_id *made;

	if (audit_ids_have(ids, id))
		return false;
	made = rt_alloc(sizeof(*made) + length + 1);
	memcpy(made->id, id, length + 1);
	HASH_ADD_STR(ids->first, id, made);
	ids->count++;
	return true;
}

void audit_ids_done(struct audit_ids *ids)
{
	struct audit_id *one = ids->first;

	HASH_CLEAR(hh, ids->first);
	while (one != NULL) {
		struct audit_id *next = one->hh.next;

		free(one);
		one = next;
	}
	ids->count = 0;
}

/* ---- scanning ---- */

bool audit_scan(struct ctl *ctl, const char *kind, const char *key,
		bool (*on_pair)(const redisReply *name, const redisReply *value, void *user),
		void *user)
{
	bool good = true;
	char cursor[32] = "0";

	do {
		redisReply *page = ctl_redis(ctl, kind, key, cursor, "COUNT", PAGE);
		const redisReply *list;

		if (page == NULL)
			return false;
		if (page->type != REDIS_REPLY_ARRAY || page->elements != 2) {
			freeReplyObject(page);
			return false;
		}
		snprintf(cursor, sizeof(cursor), "%s", ctl_text(page->element[0], "0"));
		list = page->element[1];
		for (size_t i = 0; i + 2 <= list->elements && good; i += 2)
			good = on_pair(list->element[i], list->element[i + 1], user);
		freeReplyObject(page);
	} while (good && strcmp(cursor, "0") != 0);
	return good;
}

uint64_t audit_fingerprint(uint64_t print, const char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		print = (print ^ (unsigned char)data[i]) * 1099511628211U;
	return (print ^ 0x100) * 1099511628211U; /* also marks where the data ends */
}
