/* password.h - passwords, in files that only their owner may read (file.h). */
#ifndef RT_PASSWORD_H
#define RT_PASSWORD_H

#include "rt.h"

#define RT_PASSWORD_ERROR     480 /* bytes that `error` has */
#define RT_PASSWORD_BYTES_MAX 510

/* Reads a password: the first line of its file. A path of "": it is "". *ret_more, unless NULL: whether the file holds
 * more than that. *ret is freed with rt_password_free. RT_OK, or another status with the reason, which names the
 * file, in `error`. */
int rt_password_read(const char *path, char **ret, bool *ret_more, char error[RT_PASSWORD_ERROR]);
/* Overwrites and frees. Takes NULL. */
void rt_password_free(char *password);

#endif
