/* audit_parts.c - the parts of reservations whose SKUs lie in several partitions.
 *
 * A reservation is kept with its order, in inventory:{p}:r. Where its lines are "sku=quantity@q" it moves no
 * counters: each partition q that is named has a part, in inventory:{q}:parts, under the order's id. The parts of
 * all partitions are read first; a case gets those of its order, and those that its reservation names. */
#include <inttypes.h>
#include <string.h>
#include <uthash.h>

#include "audit.h"
#include "base/base.h"

/* A part, as it was read. */
struct part {
	int partition;
	char *text; /* NULL: there is none */
};
struct audit_parts_of {
	UT_hash_handle hh;
	struct part *list;
	size_t count;
	char id[];
};

bool audit_part(const char *text, enum stock_state *ret_state, int *ret_partition,
		const char **ret_lines)
{
	char word[16];
	int64_t ms;
	int at = 0;

	if (sscanf(text, "%15[A-Z] %d %" SCNd64 "%n", word, ret_partition, &ms, &at) != 3 ||
	    (text[at] != ' ' && text[at] != '\0'))
		return false;
	*ret_lines = text + at + (text[at] == ' ');
	return stock_state_parse(word, ret_state);
}

/* ---- lines ---- */

/* The next line at *lines: "sku=quantity", "sku=quantity@q" or "sku=quantity/available@q". *ret_partition: q, or -1.
 * *ret_length: without the "@q". False: there are no more. */
static bool next_line(const char **lines, const char **ret_line, int *ret_length,
		      int *ret_partition)
{
	const char *line = *lines, *mark;
	size_t length = strcspn(line, " ");

	if (length == 0)
		return false;
	*lines = line + length + (line[length] == ' ');
	/* A SKU has no '@' behind its '='. */
	mark = memrchr(line, '@', length);
	if (mark != NULL && memchr(mark, '=', length - (size_t)(mark - line)) != NULL)
		mark = NULL;
	*ret_line = line;
	*ret_length = (int)(mark == NULL ? length : (size_t)(mark - line));
	*ret_partition = mark == NULL ? -1 : (int)strtol(mark + 1, NULL, 10);
	return true;
}

bool audit_lines_fit(const char *ordered, const char *reserved, int partition, int partition_count,
		     bool *ret_split)
{
	const char *line, *other;
	int length, other_length, at, other_at;
	bool fit = true;

	*ret_split = false;
	for (const char *rest = reserved; next_line(&rest, &line, &length, &at);)
		*ret_split = *ret_split || at >= 0;
	while (next_line(&ordered, &line, &length, &at)) {
		size_t sku = strcspn(line, "=");
		int own = rt_bucket_partition(rt_bucket(line, sku), partition_count);

		*ret_split = *ret_split || own != partition;
		if (!next_line(&reserved, &other, &other_length, &other_at)) {
			fit = false;
			continue;
		}
		/* Without a partition it is held beside its order. */
		fit = fit && length == other_length && memcmp(line, other, (size_t)length) == 0 &&
		      (other_at < 0 ? partition : other_at) == own;
	}
	return fit && reserved[0] == '\0';
}

void audit_lines_in(const char *lines, int q, struct rt_buf *text)
{
	const char *line;
	int length, at;

	while (next_line(&lines, &line, &length, &at))
		if (at == q)
			rt_buf_printf(text, "%s%.*s", text->length == 0 ? "" : " ", length, line);
	rt_buf_add(text, "", 1);
}

/* ---- all parts ---- */

static struct audit_parts_of *find_parts(const struct audit_parts *parts, const char *id)
{
	struct audit_parts_of *found;

	HASH_FIND_STR(parts->first, id, found);
	return found;
}

struct scan {
	struct audit_parts *parts;
	int partition;
};

static bool on_part(const redisReply *name, const redisReply *value, void *user)
{
	struct scan *scan = user;
	const char *id = ctl_text(name, NULL);
	struct audit_parts_of *found;

	if (id == NULL)
		return true; /* no order has a name with a NUL */
	found = find_parts(scan->parts, id);
	if (found == NULL) {
		found = rt_alloc(sizeof(*found) + strlen(id) + 1);
		memcpy(found->id, id, strlen(id));
		HASH_ADD_STR(scan->parts->first, id, found);
	}
	for (size_t i = 0; i < found->count; i++)
		if (found->list[i].partition == scan->partition)
			return true; /* HSCAN may give a field twice */
	found->list = rt_realloc(found->list, (found->count + 1) * sizeof(*found->list));
	found->list[found->count++] =
		(struct part){ scan->partition, rt_strdup(ctl_text(value, "")) };
	scan->parts->count++;
	return true;
}

bool audit_parts_read(struct ctl *ctl, struct audit_parts *parts)
{
	struct scan scan = { .parts = parts };
	bool good = true;

	for (; scan.partition < ctl->partitions && ctl->partitions > 1 && good; scan.partition++) {
		char key[CTL_KEY];

		ctl_key(key, "inventory", scan.partition, "parts");
		good = audit_scan(ctl, "HSCAN", key, on_part, &scan);
	}
	return good;
}

/* The partition of a part's order; a part that cannot be read counts as its own partition's. */
static int home_of(const struct part *part)
{
	enum stock_state state;
	const char *lines;
	int home;

	return part->text != NULL && audit_part(part->text, &state, &home, &lines) && home >= 0 &&
			       home < RT_PARTITIONS_MAX
		       ? home
		       : part->partition;
}

bool audit_parts_each(const struct audit_parts *parts,
		      bool (*on_order)(int partition, const char *id, void *user), void *user)
{
	struct audit_parts_of *one, *next;

	HASH_ITER (hh, parts->first, one, next)
		for (size_t i = 0; i < one->count; i++)
			if (!on_order(home_of(&one->list[i]), one->id, user))
				return false;
	return true;
}

void audit_parts_done(struct audit_parts *parts)
{
	struct audit_parts_of *one = parts->first;

	HASH_CLEAR(hh, parts->first);
	while (one != NULL) {
		struct audit_parts_of *next = one->hh.next;

		for (size_t i = 0; i < one->count; i++)
			free(one->list[i].text);
		free(one->list);
		free(one);
		one = next;
	}
	parts->count = 0;
}

/* ---- those of a case ---- */

/* Adds a partition to the list, without a text, unless it is there. */
static void add_partition(struct part **list, size_t *count, int partition)
{
	for (size_t i = 0; i < *count; i++)
		if ((*list)[i].partition == partition)
			return;
	*list = rt_realloc(*list, (*count + 1) * sizeof(**list));
	(*list)[(*count)++] = (struct part){ partition, NULL };
}

/* Reads a part, or takes it from those that were read. False: Redis could not be asked. */
static bool read_part(struct ctl *ctl, const struct audit_parts_of *known, bool again,
		      const char *order_id, struct part *part)
{
	char key[CTL_KEY];
	redisReply *reply;

	for (size_t i = 0; !again && known != NULL && i < known->count; i++)
		if (known->list[i].partition == part->partition)
			part->text = rt_strdup(known->list[i].text);
	if (!again)
		return true;
	ctl_key(key, "inventory", part->partition, "parts");
	reply = ctl_redis(ctl, "HGET", key, order_id);
	if (reply == NULL)
		return false;
	if (reply->type == REDIS_REPLY_STRING)
		part->text = rt_strdup(ctl_text(reply, ""));
	freeReplyObject(reply);
	return true;
}

/* Compares a part with the lines of the reservation. */
static struct audit_part compare(const struct part *part, const char *lines, int home)
{
	struct audit_part made = { .partition = part->partition };
	struct rt_buf wanted = { 0 };
	const char *held = "";
	int says = home;

	audit_lines_in(lines, part->partition, &wanted);
	made.named = wanted.data[0] != '\0';
	made.damaged = part->text != NULL && !audit_part(part->text, &made.state, &says, &held);
	if (part->text != NULL && !made.damaged)
		made.differs = says != home ||
			       (made.named &&
				(made.state == STOCK_RESERVED || made.state == STOCK_COMMITTED) &&
				strcmp(held, wanted.data) != 0);
	rt_buf_done(&wanted);
	return made;
}

bool audit_parts_of(struct ctl *ctl, const struct audit_parts *parts, bool again, const char *lines,
		    struct audit_case *one)
{
	const struct audit_parts_of *known = find_parts(parts, one->order_id);
	const char *rest = lines, *line;
	struct audit_part *made;
	struct part *list = NULL;
	size_t count = 0;
	int length, at;
	bool good = true;

	while (next_line(&rest, &line, &length, &at))
		if (at >= 0 && at < ctl->partitions)
			add_partition(&list, &count, at);
	/* Parts of an order of the same name in another partition belong to that. */
	for (size_t i = 0; known != NULL && i < known->count; i++)
		if (home_of(&known->list[i]) == one->partition)
			add_partition(&list, &count, known->list[i].partition);
	made = rt_alloc((count + 1) * sizeof(*made));
	for (size_t i = 0; i < count && good; i++) {
		good = read_part(ctl, known, again, one->order_id, &list[i]);
		made[i] = compare(&list[i], lines, one->partition);
		if (list[i].text != NULL)
			one->fingerprint = audit_fingerprint(one->fingerprint, list[i].text,
							     strlen(list[i].text));
		one->fingerprint = audit_fingerprint(one->fingerprint, "", 0);
		free(list[i].text);
	}
	free(list);
	one->parts = made;
	one->part_count = count;
	return good;
}
