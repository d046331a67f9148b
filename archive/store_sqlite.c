/* store_sqlite.c - the driver of SQLite.
 *
 * The file is in WAL mode: readers, each with a connection of its own, never wait for the writer, nor it for them. A commit
 * is not synced to the disk (synchronous=NORMAL): after a power cut the last ones may be missing, with the positions that
 * belong to them, and are read from the streams again. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "store_internal.h"

#define CACHE_KB        65536
#define SLEEP_MS        5000
#define CHECKPOINT_EACH 8192 /* pages */
#define ROWS            32   /* that are inserted by one statement */
#define KINDS           8    /* of statements that insert so */
#define KEEP_BYTES      ((size_t)1 << 20)

/* Rows that wait to be inserted together. Their texts and bytes are in the arena, which has those of ROWS at most. */
struct waiting {
	const struct db_statement *statement;
	struct rt_arena arena;
	sqlite3_stmt *many; /* inserts ROWS of them */
	struct db_value values[ROWS * DB_VALUES_MAX];
	size_t columns, count; /* of a row; rows */
};
struct sqlite {
	struct db db;
	sqlite3 *handle;
	sqlite3_stmt *statements[DB_STATEMENTS_MAX];
	struct waiting waiting[KINDS];
	size_t kinds;
	bool any; /* some rows wait */
};

static int status_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return RT_OK;
	case SQLITE_FULL:
		return RT_FULL;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return RT_BUSY;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
	case SQLITE_CONSTRAINT:
	case SQLITE_ERROR:
		return RT_INVALID;
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return RT_DENIED;
	default:
		return RT_SYSTEM;
	}
}

static int ended(struct sqlite *sqlite, int rc)
{
	int status = status_of(rc);

	if (status != RT_OK)
		snprintf(sqlite->db.error, sizeof(sqlite->db.error), "SQLite: %s",
			 sqlite3_errmsg(sqlite->handle));
	return status;
}

static int bind(sqlite3_stmt *statement, int at, const struct db_value *value)
{
	switch (value->type) {
	case DB_INT:
		return sqlite3_bind_int64(statement, at, value->number);
	case DB_TEXT:
		return sqlite3_bind_text64(statement, at, value->data, value->length, SQLITE_STATIC,
					   SQLITE_UTF8);
	case DB_BLOB:
		return sqlite3_bind_blob64(statement, at, value->data, value->length,
					   SQLITE_STATIC);
	default:
		return sqlite3_bind_null(statement, at);
	}
}

static void hand_over(sqlite3_stmt *statement, db_row *row, void *user)
{
	struct db_value values[DB_VALUES_MAX] = { 0 };
	int count = RT_MIN(sqlite3_column_count(statement), DB_VALUES_MAX);

	for (int i = 0; i < count; i++) {
		struct db_value *value = &values[i];

		switch (sqlite3_column_type(statement, i)) {
		case SQLITE_INTEGER:
			value->type = DB_INT;
			value->number = sqlite3_column_int64(statement, i);
			break;
		case SQLITE_TEXT:
			value->type = DB_TEXT;
			value->data = (const char *)sqlite3_column_text(statement, i);
			break;
		case SQLITE_BLOB:
			value->type = DB_BLOB;
			value->data = sqlite3_column_blob(statement, i);
			break;
		default:
			continue;
		}
		value->length = (size_t)sqlite3_column_bytes(statement, i);
	}
	row(values, user);
}

/* SQLite writes $1 as ?1. */
static int prepare(struct sqlite *sqlite, const char *sql, sqlite3_stmt **ret)
{
	char *own = rt_strdup(sql);
	int rc;

	for (char *at = own; *at != '\0'; at++)
		if (*at == '$')
			*at = '?';
	rc = sqlite3_prepare_v3(sqlite->handle, own, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
	free(own);
	return rc;
}

static int run(struct sqlite *sqlite, sqlite3_stmt *statement, const struct db_value *values,
	       size_t count, db_row *row, void *user)
{
	int rc = SQLITE_OK;

	for (size_t i = 0; rc == SQLITE_OK && i < count; i++)
		rc = bind(statement, (int)i + 1, &values[i]);
	if (rc == SQLITE_OK)
		while ((rc = sqlite3_step(statement)) == SQLITE_ROW)
			if (row != NULL)
				hand_over(statement, row, user);
	rc = ended(sqlite, rc);
	sqlite3_reset(statement);
	return rc;
}

static int run_one(struct sqlite *sqlite, const struct db_statement *wanted,
		   const struct db_value *values, size_t count, db_row *row, void *user)
{
	sqlite3_stmt **statement = &sqlite->statements[wanted->number];
	int rc = *statement == NULL ? prepare(sqlite, wanted->sql, statement) : SQLITE_OK;

	return rc == SQLITE_OK ? run(sqlite, *statement, values, count, row, user)
			       : ended(sqlite, rc);
}

/* ---- rows that wait ---- */

#define INSERT "INSERT"

/* The statement with ROWS times its VALUES. It has OR FAIL, so its first rows stay if a later one cannot be: none is kept of a
 * batch that fails. Without, SQLite would copy each page that the statement changes, to be able to take back these rows alone. */
static int prepare_many(struct sqlite *sqlite, struct waiting *waiting)
{
	const char *sql = waiting->statement->sql + strlen(INSERT);
	const char *values = strstr(sql, "VALUES (") + 7;
	const char *end = strchr(values, ')') + 1;
	struct rt_buf text = { 0 };
	int rc;

	rt_buf_printf(&text, INSERT " OR FAIL%.*s", (int)(values - sql), sql);
	for (size_t i = 0; i < ROWS; i++) {
		rt_buf_printf(&text, "%s(", i == 0 ? "" : ", ");
		for (size_t j = 0; j < waiting->columns; j++)
			rt_buf_printf(&text, "%s$%zu", j == 0 ? "" : ", ",
				      i * waiting->columns + j + 1);
		rt_buf_printf(&text, ")");
	}
	rt_buf_add(&text, end, strlen(end) + 1);
	rc = prepare(sqlite, text.data, &waiting->many);
	rt_buf_done(&text);
	return rc == SQLITE_OK ? RT_OK : ended(sqlite, rc);
}

static int insert_all(struct sqlite *sqlite, struct waiting *waiting, size_t count)
{
	int rc = RT_OK;

	if (count == ROWS) {
		if (waiting->many == NULL)
			rc = prepare_many(sqlite, waiting);
		return rc != RT_OK ? rc
				   : run(sqlite, waiting->many, waiting->values,
					 ROWS * waiting->columns, NULL, NULL);
	}
	for (size_t i = 0; rc == RT_OK && i < count; i++)
		rc = run_one(sqlite, waiting->statement, &waiting->values[i * waiting->columns],
			     waiting->columns, NULL, NULL);
	return rc;
}

static void forget_waiting(struct waiting *waiting)
{
	waiting->count = 0;
	rt_arena_reset(&waiting->arena, KEEP_BYTES);
}

static int insert_waiting(struct sqlite *sqlite, struct waiting *waiting)
{
	int rc = insert_all(sqlite, waiting, waiting->count);

	forget_waiting(waiting);
	return rc;
}

static int flush(struct db *db)
{
	struct sqlite *sqlite = RT_CONTAINER_OF(db, struct sqlite, db);
	int rc = RT_OK;

	for (size_t i = 0; sqlite->any && i < sqlite->kinds; i++)
		if (rc == RT_OK)
			rc = insert_waiting(sqlite, &sqlite->waiting[i]);
		else
			forget_waiting(&sqlite->waiting[i]);
	sqlite->any = false;
	return rc;
}

static struct waiting *waiting_of(struct sqlite *sqlite, const struct db_statement *statement,
				  size_t columns)
{
	for (size_t i = 0; i < sqlite->kinds; i++)
		if (sqlite->waiting[i].statement == statement)
			return &sqlite->waiting[i];
	if (sqlite->kinds == KINDS)
		return NULL;
	sqlite->waiting[sqlite->kinds].statement = statement;
	sqlite->waiting[sqlite->kinds].columns = columns;
	return &sqlite->waiting[sqlite->kinds++];
}

static int wait_with(struct sqlite *sqlite, struct waiting *waiting, const struct db_value *values)
{
	struct db_value *own = &waiting->values[waiting->count * waiting->columns];

	for (size_t i = 0; i < waiting->columns; i++) {
		own[i] = values[i];
		if (values[i].type == DB_TEXT || values[i].type == DB_BLOB)
			own[i].data =
				rt_arena_copy(&waiting->arena, values[i].data, values[i].length);
	}
	sqlite->any = true;
	return ++waiting->count == ROWS ? insert_waiting(sqlite, waiting) : RT_OK;
}

/* What is not an insertion sees all of those before it. */
static int queue(struct db *db, const struct db_statement *wanted, const struct db_value *values,
		 size_t count, db_row *row, void *user)
{
	struct sqlite *sqlite = RT_CONTAINER_OF(db, struct sqlite, db);
	struct waiting *waiting = wanted->rows ? waiting_of(sqlite, wanted, count) : NULL;
	int rc;

	if (waiting != NULL)
		return wait_with(sqlite, waiting, values);
	rc = flush(db);
	return rc == RT_OK ? run_one(sqlite, wanted, values, count, row, user) : rc;
}

static int script(struct db *db, const char *sql)
{
	struct sqlite *sqlite = RT_CONTAINER_OF(db, struct sqlite, db);

	for (size_t i = 0; i < sqlite->kinds; i++) /* of a batch that has failed */
		forget_waiting(&sqlite->waiting[i]);
	return ended(sqlite, sqlite3_exec(sqlite->handle, sql, NULL, NULL, NULL));
}

/* The log alone: what was committed is found there after a power cut. To copy it to the file as well would write pages that the
 * next batch changes again. */
static int sync_it(struct db *db)
{
	struct sqlite *sqlite = RT_CONTAINER_OF(db, struct sqlite, db);
	sqlite3_file *log = NULL;
	int rc = sqlite3_file_control(sqlite->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);

	if (rc == SQLITE_OK && log != NULL && log->pMethods != NULL)
		rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
	return ended(sqlite, rc);
}

static void close_it(struct db *db)
{
	struct sqlite *sqlite = RT_CONTAINER_OF(db, struct sqlite, db);

	for (size_t i = 0; i < DB_STATEMENTS_MAX; i++)
		sqlite3_finalize(sqlite->statements[i]);
	for (size_t i = 0; i < sqlite->kinds; i++) {
		sqlite3_finalize(sqlite->waiting[i].many);
		rt_arena_done(&sqlite->waiting[i].arena);
	}
	sqlite3_close_v2(sqlite->handle);
	free(sqlite);
}

static const struct db_ops sqlite_ops = {
	.queue = queue,
	.flush = flush,
	.script = script,
	.sync = sync_it,
	.close = close_it,
	.key = "INTEGER",
	.bytes = "BLOB",
	.clustered = " WITHOUT ROWID",
	.and_no = "",
	.begin = "BEGIN IMMEDIATE",
};

static int prepare_connection(struct sqlite *sqlite, const struct archive_store_options *options)
{
	char *sql = rt_printf(
		"PRAGMA cache_size=-%lld; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=%d; "
		"PRAGMA temp_store=MEMORY; %s",
		(long long)(options->cache_kb > 0 ? options->cache_kb : CACHE_KB), CHECKPOINT_EACH,
		options->writes ? "PRAGMA page_size=16384; PRAGMA journal_mode=WAL;"
				: "PRAGMA query_only=ON;");
	int rc;

	sqlite3_extended_result_codes(sqlite->handle, 1);
	sqlite3_busy_timeout(sqlite->handle, options->sleep_ms > 0 ? options->sleep_ms : SLEEP_MS);
	rc = script(&sqlite->db, sql);
	free(sql);
	return rc;
}

/* Without counting what it uses, SQLite takes and gives memory without a lock that all threads share. */
static void set_up(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 512, 512);
}

int db_sqlite_open(const struct archive_store_options *options, struct db **ret,
		   char error[ARCHIVE_ERROR])
{
	struct sqlite *sqlite = rt_alloc(sizeof(*sqlite));
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
		    (options->writes ? SQLITE_OPEN_CREATE : 0);
	int rc;

	pthread_once(&once, set_up);
	sqlite->db.ops = &sqlite_ops;
	rc = ended(sqlite, sqlite3_open_v2(options->database, &sqlite->handle, flags, NULL));
	if (rc == RT_OK)
		rc = prepare_connection(sqlite, options);
	if (rc != RT_OK) {
		snprintf(error, ARCHIVE_ERROR, "%.100s: %.190s", options->database,
			 sqlite->db.error);
		close_it(&sqlite->db);
		return rc;
	}
	*ret = &sqlite->db;
	return RT_OK;
}
