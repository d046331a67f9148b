/* password.c - reads passwords; see password.h. */
#include "password.h"

#include <stdio.h>
#include <string.h>

#include "file.h"

#define FILE_BYTES_MAX 4096

/* NULL: the first `length` bytes of what is in the file are a password; else what is wrong. */
static const char *mistake_in(const struct rt_buf *text, size_t length)
{
	if (text->length == 0)
		return "it is empty; its first line is the password";
	if (memchr(text->data, '\0', length) != NULL)
		return "it has a NUL byte: it is damaged";
	if (length == 0)
		return "its first line is empty; that is the password";
	if (length > RT_PASSWORD_BYTES_MAX)
		return "its first line is longer than 510 bytes";
	return NULL;
}

static bool is_end(char c)
{
	return c == '\n' || c == '\r';
}

int rt_password_read(const char *path, char **ret, bool *ret_more, char error[RT_PASSWORD_ERROR])
{
	struct rt_buf text = { .data = NULL };
	size_t length = 0, last;
	const char *mistake;
	int rc;

	if (path[0] == '\0') {
		*ret = rt_strdup("");
		return RT_OK;
	}
	rc = rt_file_read(path, RT_FILE_SECRET, FILE_BYTES_MAX, &text, error, RT_PASSWORD_ERROR);
	if (rc != RT_OK)
		return rc;
	while (length < text.length && !is_end(text.data[length]))
		length++;
	mistake = mistake_in(&text, length);
	if (mistake != NULL) {
		snprintf(error, RT_PASSWORD_ERROR, "%.300s: %s", path, mistake);
		rt_file_erase(&text);
		return RT_INVALID;
	}
	for (last = length; last < text.length && is_end(text.data[last]);)
		last++;
	if (ret_more != NULL)
		*ret_more = last < text.length;
	*ret = rt_strndup(text.data, length);
	rt_file_erase(&text);
	return RT_OK;
}

void rt_password_free(char *password)
{
	if (password != NULL)
		explicit_bzero(password, strlen(password));
	free(password);
}
