/* store_postgresql.c - the driver of PostgreSQL.
 *
 * Statements go in libpq's pipeline mode: a turn of the network for many of them. After each PIPELINE_MAX the answers are
 * read, so that neither side waits for the other to take what it sends. An error ends the transaction; those behind it in
 * the pipeline are skipped by the server. */
#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "store_internal.h"

#define PIPELINE_MAX 512
/* Types, as the server numbers them. */
#define INT8OID  20
#define INT4OID  23
#define BYTEAOID 17

struct waiting {
	db_row *row; /* NULL: nobody asks for its rows; or it is no query */
	void *user;
};
struct postgresql {
	struct db db;
	PGconn *connection;
	bool prepared[DB_STATEMENTS_MAX];
	struct waiting waiting[2 * PIPELINE_MAX];
	size_t waiting_count;
};

/* The database is full, or away, or will not have it. */
static int status_of(const PGconn *connection, const PGresult *result)
{
	const char *code = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	if (PQstatus(connection) != CONNECTION_OK || code == NULL)
		return RT_LOST;
	if (strncmp(code, "53", 2) == 0) /* resources: disk, memory, connections */
		return RT_FULL;
	if (strncmp(code, "57", 2) == 0 ||
	    strncmp(code, "08", 2) == 0) /* it ends, or has not begun */
		return RT_LOST;
	if (strncmp(code, "40", 2) == 0 || strncmp(code, "55", 2) == 0) /* another one was first */
		return RT_BUSY;
	if (strncmp(code, "42501", 5) == 0 || strncmp(code, "28", 2) == 0)
		return RT_DENIED;
	return RT_INVALID;
}

static int failed(struct postgresql *postgresql, const PGresult *result)
{
	const char *text = result != NULL ? PQresultErrorMessage(result)
					  : PQerrorMessage(postgresql->connection);

	snprintf(postgresql->db.error, sizeof(postgresql->db.error), "PostgreSQL: %.*s",
		 (int)strcspn(text, "\n"), text);
	return status_of(postgresql->connection, result);
}

static void hand_over(const PGresult *result, db_row *row, void *user)
{
	int count = RT_MIN(PQnfields(result), DB_VALUES_MAX);

	for (int i = 0; i < PQntuples(result); i++) {
		struct db_value values[DB_VALUES_MAX] = { 0 };

		for (int j = 0; j < count; j++) {
			struct db_value *value = &values[j];
			uint64_t wide;
			uint32_t narrow;

			if (PQgetisnull(result, i, j))
				continue;
			value->data = PQgetvalue(result, i, j);
			value->length = (size_t)PQgetlength(result, i, j);
			switch (PQftype(result, j)) {
			case INT8OID:
				memcpy(&wide, value->data, sizeof(wide));
				value->type = DB_INT;
				value->number = (int64_t)be64toh(wide);
				break;
			case INT4OID:
				memcpy(&narrow, value->data, sizeof(narrow));
				value->type = DB_INT;
				value->number = (int32_t)be32toh(narrow);
				break;
			default:
				value->type = PQftype(result, j) == BYTEAOID ? DB_BLOB : DB_TEXT;
			}
		}
		row(values, user);
	}
}

/* Reads what the server says to everything that was sent. The first error counts. */
static int flush(struct db *db)
{
	struct postgresql *postgresql = RT_CONTAINER_OF(db, struct postgresql, db);
	PGconn *connection = postgresql->connection;
	size_t count = postgresql->waiting_count, at = 0;
	int rc = RT_OK;

	postgresql->waiting_count = 0;
	if (count == 0)
		return RT_OK;
	if (PQpipelineSync(connection) != 1)
		return failed(postgresql, NULL);
	for (;;) {
		PGresult *result = PQgetResult(connection);
		ExecStatusType status = PQresultStatus(result);

		if (result == NULL) { /* the end of one of them */
			if (PQstatus(connection) != CONNECTION_OK)
				return failed(postgresql, NULL);
			at++;
			continue;
		}
		if (status == PGRES_PIPELINE_SYNC) {
			PQclear(result);
			return rc;
		}
		if (status == PGRES_TUPLES_OK && rc == RT_OK && at < count &&
		    postgresql->waiting[at].row != NULL)
			hand_over(result, postgresql->waiting[at].row,
				  postgresql->waiting[at].user);
		else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK &&
			 status != PGRES_PIPELINE_ABORTED && rc == RT_OK)
			rc = failed(postgresql, result);
		PQclear(result);
	}
}

static void wait_for(struct postgresql *postgresql, db_row *row, void *user)
{
	postgresql->waiting[postgresql->waiting_count++] = (struct waiting){ row, user };
}

static int prepare(struct postgresql *postgresql, const struct db_statement *statement)
{
	char name[16];

	if (postgresql->prepared[statement->number])
		return RT_OK;
	snprintf(name, sizeof(name), "s%d", statement->number);
	if (PQsendPrepare(postgresql->connection, name, statement->sql, 0, NULL) != 1)
		return failed(postgresql, NULL);
	postgresql->prepared[statement->number] = true;
	wait_for(postgresql, NULL, NULL);
	return RT_OK;
}

static int send_it(struct postgresql *postgresql, int number, const struct db_value *values,
		   size_t count)
{
	const char *data[DB_VALUES_MAX];
	int lengths[DB_VALUES_MAX], binary[DB_VALUES_MAX];
	uint64_t numbers[DB_VALUES_MAX];
	char name[16];

	snprintf(name, sizeof(name), "s%d", number);
	for (size_t i = 0; i < count; i++) {
		const struct db_value *value = &values[i];

		binary[i] = 1;
		numbers[i] = htobe64((uint64_t)value->number);
		data[i] = value->type == DB_NULL  ? NULL
			  : value->type == DB_INT ? (const char *)&numbers[i]
						  : (value->data != NULL ? value->data : "");
		lengths[i] = value->type == DB_INT ? (int)sizeof(numbers[i]) : (int)value->length;
	}
	return PQsendQueryPrepared(postgresql->connection, name, (int)count, data, lengths, binary,
				   1) == 1
		       ? RT_OK
		       : failed(postgresql, NULL);
}

static int queue(struct db *db, const struct db_statement *statement, const struct db_value *values,
		 size_t count, db_row *row, void *user)
{
	struct postgresql *postgresql = RT_CONTAINER_OF(db, struct postgresql, db);
	int rc = prepare(postgresql, statement);

	if (rc != RT_OK)
		return rc;
	rc = send_it(postgresql, statement->number, values, count);
	if (rc != RT_OK)
		return rc;
	wait_for(postgresql, row, user);
	return postgresql->waiting_count >= PIPELINE_MAX ? flush(db) : RT_OK;
}

/* Several statements at once are not possible in a pipeline. */
static int script(struct db *db, const char *sql)
{
	struct postgresql *postgresql = RT_CONTAINER_OF(db, struct postgresql, db);
	PGresult *result;
	int rc = flush(db);

	if (rc != RT_OK && rc != RT_INVALID && rc != RT_BUSY)
		return rc;
	if (PQexitPipelineMode(postgresql->connection) != 1)
		return failed(postgresql, NULL);
	result = PQexec(postgresql->connection, sql);
	rc = PQresultStatus(result) == PGRES_COMMAND_OK ? RT_OK : failed(postgresql, result);
	PQclear(result);
	if (PQenterPipelineMode(postgresql->connection) != 1 && rc == RT_OK)
		rc = failed(postgresql, NULL);
	return rc;
}

static void close_it(struct db *db)
{
	struct postgresql *postgresql = RT_CONTAINER_OF(db, struct postgresql, db);

	PQfinish(postgresql->connection);
	free(postgresql);
}

static const struct db_ops postgresql_ops = {
	.queue = queue,
	.flush = flush,
	.script = script,
	.close = close_it,
	.key = "BIGINT",
	.bytes = "BYTEA",
	.clustered = "",
	.and_no = ", order_no",
	/* Of two that write at once the second one fails, and looks again. */
	.begin = "BEGIN ISOLATION LEVEL REPEATABLE READ",
};

static void ignore_notice(void *user, const char *text)
{
	(void)user;
	(void)text;
}

/* What libpq is told beside the URL: a server that has gone is noticed. What the URL says of these wins. */
static PGconn *connect_to(const char *url)
{
	const char *const names[] = { "connect_timeout",  "keepalives_idle", "tcp_user_timeout",
				      "application_name", "dbname",          NULL };
	const char *const values[] = { "5", "10", "15000", "tandem-archive", url, NULL };

	return PQconnectdbParams(names, values, 1);
}

int db_postgresql_open(const struct archive_store_options *options, struct db **ret,
		       char error[ARCHIVE_ERROR])
{
	struct postgresql *postgresql = rt_alloc(sizeof(*postgresql));
	int rc = RT_OK;

	postgresql->db.ops = &postgresql_ops;
	postgresql->connection = connect_to(options->database);
	PQsetNoticeProcessor(postgresql->connection, ignore_notice, NULL);
	if (PQstatus(postgresql->connection) != CONNECTION_OK) {
		(void)failed(postgresql, NULL);
		rc = RT_LOST;
	} else if (PQenterPipelineMode(postgresql->connection) != 1) {
		rc = failed(postgresql, NULL);
	} else if (!options->writes) {
		rc = script(&postgresql->db, "SET default_transaction_read_only = on");
	}
	if (rc != RT_OK) {
		snprintf(error, ARCHIVE_ERROR, "%s", postgresql->db.error);
		close_it(&postgresql->db);
		return rc;
	}
	*ret = &postgresql->db;
	return RT_OK;
}
