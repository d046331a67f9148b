/* store_internal.h - a database, for store.c: what the drivers of SQLite and PostgreSQL do.
 *
 * A statement is SQL that both understand, with parameters $1, $2 … Statements are
 * queued; their rows have been handed over when `flush` returns. SQLite runs each at once, but inserts many rows by one; PostgreSQL gets many at a time.
 * In a transaction nothing may follow what has failed but ROLLBACK: SQLite may have ended it (a full disk), and what followed
 * would be stored.
 */
#ifndef ARCHIVE_STORE_INTERNAL_H
#define ARCHIVE_STORE_INTERNAL_H

#include <string.h>

#include "store.h"

#define DB_VALUES_MAX 13

struct db_value {
	enum { DB_NULL, DB_INT, DB_TEXT, DB_BLOB } type;
	int64_t number;
	const char *data; /* of texts and bytes; a text in a row has a NUL behind it */
	size_t length;
};
static inline struct db_value db_number(int64_t n)
{
	return (struct db_value){ .type = DB_INT, .number = n };
}
static inline struct db_value db_text(const char *s)
{
	return (struct db_value){ .type = DB_TEXT, .data = s, .length = strlen(s) };
}
/* Prepared at its first use, under its number. */
struct db_statement {
	int number; /* from 0, below DB_STATEMENTS_MAX */
	const char *sql;
	bool rows; /* INSERT … VALUES (…), of which many at once are cheaper */
};
#define DB_STATEMENTS_MAX 64

struct db;
typedef void db_row(const struct db_value *columns, void *user);
struct db_ops {
	/* `row` (or NULL) gets each row. The values are copied. */
	int (*queue)(struct db *db, const struct db_statement *statement,
		     const struct db_value *values, size_t count, db_row *row, void *user);
	int (*flush)(struct db *db);
	/* Statements without parameters and rows, separated by semicolons. */
	int (*script)(struct db *db, const char *sql);
	/* What was committed is on the disk when this returns; NULL: it is always. */
	int (*sync)(struct db *db);
	void (*close)(struct db *db);
	/* How the tables of this one differ: the type of numbers that are a table's key; of bytes; what follows a table that
	 * is stored in the order of its key; the key behind the columns of an index, unless it is there by itself; what begins a
	 * transaction that writes. */
	const char *key, *bytes, *clustered, *and_no, *begin;
};
struct db {
	const struct db_ops *ops;
	char error[ARCHIVE_ERROR];
};

int db_sqlite_open(const struct archive_store_options *options, struct db **ret,
		   char error[ARCHIVE_ERROR]);
int db_postgresql_open(const struct archive_store_options *options, struct db **ret,
		       char error[ARCHIVE_ERROR]);

/* store_schema.c: makes the tables, or brings those of an earlier version up to now. */
int store_migrate(struct db *db);
/* Whether they are of this version; else RT_INVALID or RT_UNREADY. */
int store_check(struct db *db);

#endif
