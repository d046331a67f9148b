/* store_schema.c - the tables, and how those of earlier versions become those of now.
 *
 * The table `schema` says which version the others have. A change of the tables is one more text at the end of `versions`;
 * what was released is never edited. Words between @ differ from database to database (struct db_ops). */
#include <stdio.h>
#include <string.h>

#include "store_internal.h"

static const char *const versions[] = {
	/* 1 */
	"CREATE TABLE orders ("
	/* The milliseconds of its placing and 20 bits of a serial number. */
	" order_no @key@ PRIMARY KEY,"
	" order_id TEXT NOT NULL,"
	/* NULL, with `placed`: its OrderPlaced was trimmed before it was archived. */
	" customer_id TEXT,"
	/* In whose stream it was. */
	" partition_no BIGINT NOT NULL,"
	/* As tandem.order.v1.OrderStatus numbers them; 0: not known. */
	" status BIGINT NOT NULL,"
	" settled BIGINT NOT NULL,"
	/* The order service does not have it any more: the time in the id of the entry that said so. 0: it has. 1, of
	 * version 1: it has not. */
	" dropped BIGINT NOT NULL,"
	/* Of the last event of the order's stream, and of inventory's. */
	" version BIGINT NOT NULL,"
	" stock_version BIGINT NOT NULL,"
	/* What inventory did last: 2 reserved, 3 committed, 4 released, 5 unavailable. */
	" stock_state BIGINT NOT NULL,"
	" updated_ms BIGINT NOT NULL,"
	/* tandem.order.v1.OrderPlaced. */
	" placed @bytes@,"
	/* Its events: store_life.h. */
	" life @bytes@ NOT NULL);"
	/* Those whose status may change: few. */
	"CREATE INDEX orders_open ON orders (order_no) WHERE settled = 0;"
	/* What the order service may drop, the oldest first. */
	"CREATE INDEX orders_to_release ON orders (partition_no, updated_ms@and_no@)"
	" WHERE settled = 1 AND dropped = 0 AND customer_id IS NOT NULL;"
	/* Where postings lie: store_index.h. */
	"CREATE TABLE segments ("
	" segment @key@ PRIMARY KEY,"
	" first_no BIGINT NOT NULL,"
	" orders BIGINT NOT NULL);"
	"CREATE TABLE postings ("
	/* The segment, the kind and a hash. */
	" posting_key BIGINT NOT NULL,"
	" order_no BIGINT NOT NULL,"
	" PRIMARY KEY (posting_key, order_no))@clustered@;"
	"CREATE TABLE stock_movements ("
	" sku TEXT NOT NULL,"
	/* The milliseconds of its time and 20 bits of a serial number. */
	" movement_no BIGINT NOT NULL,"
	/* Those that end with this number: store_moves.h. */
	" moves @bytes@ NOT NULL,"
	" PRIMARY KEY (sku, movement_no))@clustered@;"
	"CREATE TABLE positions ("
	" stream TEXT NOT NULL PRIMARY KEY,"
	" id TEXT NOT NULL,"
	" events BIGINT NOT NULL);"
	/* What nobody knows any more: it was trimmed before it was archived. */
	"CREATE TABLE gaps ("
	" stream TEXT NOT NULL,"
	" after_id TEXT NOT NULL,"
	" before_id TEXT NOT NULL,"
	" events BIGINT NOT NULL,"
	" found_ms BIGINT NOT NULL,"
	" reason TEXT NOT NULL,"
	" PRIMARY KEY (stream, after_id, before_id));"
	"CREATE TABLE unreadable ("
	" stream TEXT NOT NULL,"
	" id TEXT NOT NULL,"
	" reason TEXT NOT NULL,"
	" data @bytes@ NOT NULL,"
	" PRIMARY KEY (stream, id));"
	"CREATE TABLE numbers ("
	" name TEXT NOT NULL PRIMARY KEY,"
	" value BIGINT NOT NULL);",
	/* 2: those that were dropped last, for when the stream loses that they were. */
	"CREATE INDEX orders_dropped ON orders (partition_no, dropped) WHERE dropped > 1;",
	/* 3: several postings to a row. The rows that have none are of before: store_postings.h. In the others the key is a
	 * bucket's, and order_no the row's own number. */
	"ALTER TABLE postings ADD COLUMN postings @bytes@;",
};

/* Of the tables, as this program writes them. */
static int own_version(void)
{
	return (int)RT_LENGTH(versions);
}

/* `sql` with the words of this database; freed by the caller. */
static char *in_words_of(const struct db *db, const char *sql)
{
	const struct {
		const char *name, *value;
	} words[] = { { "@key@", db->ops->key },
		      { "@bytes@", db->ops->bytes },
		      { "@clustered@", db->ops->clustered },
		      { "@and_no@", db->ops->and_no } };
	struct rt_buf text = { 0 };

	while (*sql != '\0') {
		size_t plain = strcspn(sql, "@"), i = 0;

		rt_buf_add(&text, sql, plain);
		sql += plain;
		if (*sql == '\0')
			break;
		while (i < RT_LENGTH(words) &&
		       strncmp(sql, words[i].name, strlen(words[i].name)) != 0)
			i++;
		if (i == RT_LENGTH(words))
			break;
		rt_buf_add(&text, words[i].value, strlen(words[i].value));
		sql += strlen(words[i].name);
	}
	rt_buf_add(&text, "", 1);
	return text.data;
}

static void read_number(const struct db_value *columns, void *user)
{
	*(int64_t *)user = columns[0].number;
}

static const struct db_statement version_read = { .number = 0,
						  .sql = "SELECT MAX(version) FROM schema" };

static int read_version(struct db *db, int64_t *ret)
{
	int rc;

	*ret = 0;
	rc = db->ops->queue(db, &version_read, NULL, 0, read_number, ret);
	return rc == RT_OK ? db->ops->flush(db) : rc;
}

int store_check(struct db *db)
{
	int64_t version;
	int rc = read_version(db, &version);

	if (rc != RT_OK)
		return rc == RT_INVALID ? RT_UNREADY : rc; /* there are no tables yet */
	if (version == own_version())
		return RT_OK;
	snprintf(db->error, sizeof(db->error),
		 "its tables have version %lld, this program knows version %d", (long long)version,
		 own_version());
	return version > own_version() ? RT_INVALID : RT_UNREADY;
}

static int migrate_from(struct db *db, int64_t version)
{
	int rc = RT_OK;

	for (size_t i = (size_t)version; rc == RT_OK && i < RT_LENGTH(versions); i++) {
		char *sql = in_words_of(db, versions[i]), *note;

		note = rt_printf("INSERT INTO schema (version, since_ms) VALUES (%zu, %lld)", i + 1,
				 (long long)(rt_wall_us() / 1000));
		rc = db->ops->script(db, sql);
		if (rc == RT_OK)
			rc = db->ops->script(db, note);
		free(sql);
		free(note);
	}
	return rc;
}

int store_migrate(struct db *db)
{
	int64_t version;
	int rc = db->ops->script(db, db->ops->begin);

	if (rc != RT_OK)
		return rc;
	rc = db->ops->script(db, "CREATE TABLE IF NOT EXISTS schema (version BIGINT NOT NULL,"
				 " since_ms BIGINT NOT NULL)");
	if (rc == RT_OK)
		rc = read_version(db, &version);
	if (rc == RT_OK && version > own_version())
		rc = store_check(db);
	if (rc == RT_OK)
		rc = migrate_from(db, version);
	if (rc == RT_OK)
		rc = db->ops->script(db, "COMMIT");
	if (rc != RT_OK) {
		char error[ARCHIVE_ERROR];

		memcpy(error, db->error, sizeof(error)); /* the reason, not that of what follows */
		(void)db->ops->script(db, "ROLLBACK");
		memcpy(db->error, error, sizeof(error));
	}
	return rc;
}
