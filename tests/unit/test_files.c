/* Files that are read again when they change: each kind of change is noticed once, when it is over. */
#include "loop/files.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"

static struct rt_loop *loop;
static struct rt_files files;
static int changes;
static char folder[] = "/tmp/tandem-files-XXXXXX";
static char one[64], other[64], spare[64];

static void on_changed(struct rt_files *changed)
{
	CU_ASSERT_PTR_EQUAL(changed, &files);
	changes++;
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fputs(text, file);
	fclose(file);
}

static void watch(void)
{
	const char *const paths[] = { one, "", NULL, other };

	CU_ASSERT_EQUAL_FATAL(rt_loop_new_manual(0, 1, &loop), RT_OK);
	write_file(one, "first");
	(void)unlink(other);
	changes = 0;
	rt_files_watch(loop, &files, paths, RT_LENGTH(paths), on_changed);
	rt_loop_advance(loop, 5000);
	CU_ASSERT_EQUAL(changes, 0);
}

static void end(void)
{
	rt_files_stop(&files);
	rt_files_stop(&files);
	rt_loop_free(loop);
}

static void noticed_once(void)
{
	rt_loop_advance(loop, 2000);
	CU_ASSERT_EQUAL(changes, 1);
	rt_loop_advance(loop, 10000);
	CU_ASSERT_EQUAL(changes, 1);
	changes = 0;
}

static void each_change_is_noticed(void)
{
	write_file(one, "second, longer");
	noticed_once();
	write_file(spare, "second, longer");
	CU_ASSERT_EQUAL(rename(spare, one), 0); /* the same content in another file */
	noticed_once();
	CU_ASSERT_EQUAL(chmod(one, 0600), 0); /* it was refused for its mode before */
	noticed_once();
	write_file(other, "it was not there");
	noticed_once();
	CU_ASSERT_EQUAL(unlink(other), 0);
	noticed_once();
}

static void it_is_reported_when_it_is_over(void)
{
	for (int i = 0; i < 5; i++) {
		char text[32];

		snprintf(text, sizeof(text), "%.*s", i + 1, "written bit by bit");
		write_file(one, text);
		rt_loop_advance(loop, 1000);
		CU_ASSERT_EQUAL(changes, 0);
	}
	rt_loop_advance(loop, 1000);
	CU_ASSERT_EQUAL(changes, 1);
}

static const struct test tests[] = {
	{ "each change is noticed", each_change_is_noticed },
	{ "it is reported when it is over", it_is_reported_when_it_is_over },
};

int main(void)
{
	int failed;

	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(one, sizeof(one), "%s/one", folder);
	snprintf(other, sizeof(other), "%s/other", folder);
	snprintf(spare, sizeof(spare), "%s/spare", folder);
	failed = tests_run_each("files", watch, end, tests, RT_LENGTH(tests));
	(void)unlink(one);
	(void)unlink(other);
	return failed | (rmdir(folder) != 0);
}
