/* file.c - reads a small file; see file.h. The mode is that of the file that was opened, so nobody can put
 * another in its place in between. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static bool dumps_allowed;

void rt_file_allow_dumps(void)
{
	dumps_allowed = true;
}

bool rt_file_protect(void)
{
	return dumps_allowed || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

/* Whether systemd gave it to this service, in a folder that nobody else can enter. */
static bool is_credential(const char *path)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	size_t length = folder != NULL ? strlen(folder) : 0;

	return length > 0 && strncmp(path, folder, length) == 0 && path[length] == '/';
}

static bool unfit(const char *path, enum rt_file_kind kind, const struct stat *file, char *error,
		  size_t error_size)
{
	mode_t forbidden = kind == RT_FILE_SECRET ? 077 : 022;

	if (!S_ISREG(file->st_mode)) { /* a pipe would look like an empty file */
		snprintf(error, error_size, "%s is not a file", path);
		return true;
	}
	if (is_credential(path))
		forbidden &= ~(mode_t)040;
	if (kind == RT_FILE_PLAIN)
		return false;
	if ((file->st_mode & forbidden) != 0) {
		snprintf(error, error_size, "%s has mode %04o: others may %s it; chmod %s it", path,
			 (unsigned int)file->st_mode & 07777,
			 kind == RT_FILE_SECRET ? "read or write" : "write",
			 kind == RT_FILE_SECRET ? "0600" : "go-w");
		return true;
	}
	if (file->st_uid != 0 && file->st_uid != geteuid()) {
		snprintf(error, error_size,
			 "%s belongs to user %u, who is neither root nor the one this runs as",
			 path, (unsigned int)file->st_uid);
		return true;
	}
	return false;
}

static int read_all(int fd, const char *path, size_t max_bytes, struct rt_buf *ret, char *error,
		    size_t error_size)
{
	/* All room at once: growing would leave copies behind. */
	ret->data = rt_alloc(max_bytes + 1);
	ret->capacity = max_bytes + 1;
	for (;;) {
		ssize_t got = read(fd, ret->data + ret->length, ret->capacity - ret->length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			snprintf(error, error_size, "%s: %s", path, strerror(errno));
			return RT_SYSTEM;
		}
		if (got == 0)
			break;
		ret->length += (size_t)got;
		if (ret->length > max_bytes) {
			snprintf(error, error_size, "%s is longer than %zu bytes", path, max_bytes);
			return RT_INVALID;
		}
	}
	ret->data[ret->length] = '\0';
	return RT_OK;
}

int rt_file_read(const char *path, enum rt_file_kind kind, size_t max_bytes, struct rt_buf *ret,
		 char *error, size_t error_size)
{
	/* Without O_NONBLOCK a pipe would wait for its other end. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = RT_SYSTEM;
	struct rt_buf text = { 0 };
	struct stat file;

	if (fd < 0 || fstat(fd, &file) != 0)
		snprintf(error, error_size, "%s: %s", path, strerror(errno));
	else if (unfit(path, kind, &file, error, error_size))
		rc = RT_INVALID;
	else if (kind == RT_FILE_SECRET && !rt_file_protect())
		snprintf(error, error_size, "%s: this process cannot protect it: %s", path,
			 strerror(errno));
	else
		rc = read_all(fd, path, max_bytes, &text, error, error_size);
	if (fd >= 0)
		close(fd);
	if (rc == RT_OK)
		*ret = text;
	else
		rt_file_erase(&text);
	return rc;
}

void rt_file_erase(struct rt_buf *text)
{
	if (text->data != NULL)
		explicit_bzero(text->data, text->capacity);
	rt_buf_done(text);
}
