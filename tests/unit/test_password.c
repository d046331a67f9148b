/* test_password.c - files that hold a secret: who may have rights on them, what is in them, and that the process leaves
 * no core afterwards. */
#include "base/password.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

static char path[] = "/tmp/tandem-password-XXXXXX";

/* Writes the file anew. */
static void hold(const char *content, size_t length, mode_t mode)
{
	FILE *file = fopen(path, "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	CU_ASSERT_EQUAL(fwrite(content, 1, length, file), length);
	fclose(file);
	CU_ASSERT_EQUAL(chmod(path, mode), 0);
}

static void passwords(void)
{
	static const struct {
		const char *content;
		size_t length;
		const char *password; /* NULL: refused */
		const char *error;
		bool more;
	} rows[] = {
		{ "secret\n", 7, "secret", "", false },
		{ "secret", 6, "secret", "", false },
		{ "secret\r\n", 8, "secret", "", false },
		{ "secret\n\n", 8, "secret", "", false },
		{ "with space\nsecond\n", 18, "with space", "", true },
		{ "", 0, NULL, "it is empty", false },
		{ "\nsecond\n", 8, NULL, "its first line is empty", false },
		{ "sec\0ret\n", 8, NULL, "it has a NUL byte", false },
	};
	char error[RT_PASSWORD_ERROR], long_line[RT_PASSWORD_BYTES_MAX + 1];
	char *password = NULL;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		bool more = false;

		error[0] = '\0';
		hold(rows[i].content, rows[i].length, 0600);
		if (rows[i].password == NULL) {
			TEST_ROW(rt_password_read(path, &password, &more, error) != RT_OK,
				 rows[i].error);
			TEST_ROW(strstr(error, rows[i].error) != NULL, error);
			TEST_ROW(strstr(error, path) != NULL, error);
			continue;
		}
		TEST_ROW(rt_password_read(path, &password, &more, error) == RT_OK, error);
		TEST_ROW(strcmp(password, rows[i].password) == 0, rows[i].content);
		TEST_ROW(more == rows[i].more, rows[i].content);
		rt_password_free(password);
	}
	memset(long_line, 'p', sizeof(long_line));
	hold(long_line, sizeof(long_line), 0600);
	CU_ASSERT_EQUAL(rt_password_read(path, &password, NULL, error), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "longer than 510 bytes"));
	hold(long_line, sizeof(long_line) - 1, 0600);
	CU_ASSERT_EQUAL(rt_password_read(path, &password, NULL, error), RT_OK);
	CU_ASSERT_EQUAL(strlen(password), RT_PASSWORD_BYTES_MAX);
	rt_password_free(password);
	CU_ASSERT_EQUAL(rt_password_read("", &password, NULL, error), RT_OK);
	CU_ASSERT_STRING_EQUAL(password, "");
	rt_password_free(password);
	rt_password_free(NULL);
}

/* Every bit that group or others could have. */
static void modes(void)
{
	struct rt_buf text = { .data = NULL };
	char error[RT_PASSWORD_ERROR];

	for (mode_t mode = 0; mode < 01000; mode++) {
		bool good = (mode & 0077) == 0;
		char row[16], shown[32];
		int rc;

		if ((mode & 0400) == 0 || ((mode & 0077) != 0 && (mode & 0700) != 0600))
			continue; /* unreadable, or nothing new */
		snprintf(row, sizeof(row), "%04o", (unsigned)mode);
		snprintf(shown, sizeof(shown), "has mode %s:", row);
		hold("secret", 6, mode);
		rc = rt_file_read(path, RT_FILE_SECRET, 100, &text, error, sizeof(error));
		TEST_ROW((rc == RT_OK) == good, row);
		if (rc != RT_OK) {
			TEST_ROW(strstr(error, shown) != NULL && strstr(error, path) != NULL,
				 error);
			TEST_ROW(strstr(error, "chmod 0600") != NULL, error);
			continue;
		}
		TEST_ROW(text.length == 6 && strcmp(text.data, "secret") == 0, row);
		rt_file_erase(&text);
	}
}

/* A credential that systemd gives: its access control list shows as rights of the group. */
static void credentials(void)
{
	static const struct {
		const char *folder;
		mode_t mode;
		bool good;
	} rows[] = {
		{ "/tmp", 0440, true },    { "/tmp", 0444, false }, { "/tm", 0440, false },
		{ "/other", 0440, false }, { "", 0440, false },
	};
	struct rt_buf text = { .data = NULL };
	char error[RT_PASSWORD_ERROR];

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		int rc;

		hold("secret", 6, rows[i].mode);
		setenv("CREDENTIALS_DIRECTORY", rows[i].folder, 1);
		rc = rt_file_read(path, RT_FILE_SECRET, 100, &text, error, sizeof(error));
		TEST_ROW((rc == RT_OK) == rows[i].good, rows[i].folder);
		if (rc == RT_OK)
			rt_file_erase(&text);
	}
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void other_files(void)
{
	struct rt_buf text = { .data = NULL };
	char error[RT_PASSWORD_ERROR];

	hold("secret", 6, 0600);
	CU_ASSERT_EQUAL(rt_file_read(path, RT_FILE_SECRET, 5, &text, error, sizeof(error)),
			RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "is longer than 5 bytes"));
	CU_ASSERT_EQUAL(rt_file_read(path, RT_FILE_SECRET, 6, &text, error, sizeof(error)), RT_OK);
	rt_file_erase(&text);
	CU_ASSERT_EQUAL(rt_file_read("/nonexistent/secret", RT_FILE_SECRET, 100, &text, error,
				     sizeof(error)),
			RT_SYSTEM);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "/nonexistent/secret: No such file or directory"));
	CU_ASSERT_NOT_EQUAL(rt_file_read("/", RT_FILE_SECRET, 100, &text, error, sizeof(error)),
			    RT_OK);
}

/* In a process of its own: bit 0, whether it may be dumped before it reads a secret; bit 1: afterwards. */
static int dumpable(bool allowed, mode_t mode)
{
	pid_t pid;
	int status = 0;

	hold("secret", 6, mode);
	pid = fork();
	if (pid == 0) {
		struct rt_buf text = { .data = NULL };
		char error[RT_PASSWORD_ERROR];
		int result;

		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* this test's own program has read some */
		result = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1;
		if (allowed)
			rt_file_allow_dumps();
		if (rt_file_read(path, RT_FILE_SECRET, 100, &text, error, sizeof(error)) == RT_OK)
			rt_file_erase(&text);
		_exit(result + 2 * (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void dumps(void)
{
	CU_ASSERT_EQUAL(dumpable(false, 0600), 1);
	CU_ASSERT_EQUAL(dumpable(true, 0600), 3);
	CU_ASSERT_EQUAL(dumpable(false, 0644), 3); /* it was not read */
}

static const struct test tests[] = {
	{ "a password is the first line of its file", passwords },
	{ "nobody but the owner may have rights", modes },
	{ "credentials of systemd", credentials },
	{ "files that are no secret", other_files },
	{ "no core after a secret was read", dumps },
};

int main(void)
{
	int rc, fd = mkstemp(path);

	if (fd < 0)
		return 1;
	close(fd);
	rc = tests_run("password", tests, RT_LENGTH(tests));
	unlink(path);
	return rc;
}
