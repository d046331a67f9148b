/* main.c - tandem-archive: its settings, and the context run as a program. */
#include "access.h"
#include "archive.h"
#include "context/context.h"
#include "contexts.h"

struct settings {
	struct rt_context_settings context; /* first */
	struct archive_options archive;
};

#define AT(member) offsetof(struct settings, archive.member)
static const struct rt_setting settings_table[] = {
	{ "database", RT_SETTING_STRING, AT(database), "archive.db", 0, 0,
	  "Where events are archived: the path of SQLite's file, which is made if it is not there, "
	  "or "
	  "the URL of a database of PostgreSQL, postgresql://user@host:port/database; its "
	  "password is best kept in libpq's password file (PGPASSFILE)." },
	{ "cache", RT_SETTING_INT, AT(cache_kb), "65536", 1024, INT64_C(1) << 32,
	  "KiB of SQLite's file that each of its connections keeps in memory." },
	{ "write-every", RT_SETTING_DURATION, AT(write_every_ms), "1s", 0, 60000,
	  "What comes within this time is written together, if it is not too much." },
	{ "reading-threads", RT_SETTING_INT, AT(reading_threads), "2", 1, 64,
	  "So many searches and exports read the database at once." },
	{ "release-after", RT_SETTING_DURATION, AT(release_after_ms), "30d", 0, 3650 * RT_DAY_MS,
	  "A settled order may be dropped from Redis when nothing has happened to it for so long, "
	  "since it is archived; 0: it stays." },
	{ "release-count", RT_SETTING_INT, AT(release_count), "0", 0, INT64_C(1000000000000),
	  "When more settled orders than this are in Redis, the oldest may be dropped, too; 0: any "
	  "number may be there." },
	{ "release-min-age", RT_SETTING_DURATION, AT(release_min_age_ms), "75s", 0, RT_DAY_MS,
	  "No order may be dropped before nothing has happened to it for so long, however many "
	  "there "
	  "are: the order service keeps each for a minute." },
	RT_SETTING_END,
};

int main(int argc, char **argv)
{
	const struct rt_context_program program = {
		.domain = &archive_domain,
		.about = "Keeps what happened to orders and stock in a database.",
		.listen = ARCHIVE_LISTEN,
		.admin_listen = ARCHIVE_ADMIN_LISTEN,
		.access = access_roles,
		.settings = settings_table,
		.settings_size = sizeof(struct settings),
		.options_offset = offsetof(struct settings, archive),
	};

	return rt_context_run(&program, argc, argv);
}
