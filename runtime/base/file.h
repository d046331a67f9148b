/* file.h - reading a small file at once, and whether others may read or change it. */
#ifndef RT_FILE_H
#define RT_FILE_H

#include "rt.h"

enum rt_file_kind {
	RT_FILE_PLAIN,
	RT_FILE_TRUSTED, /* nobody but its owner, who is root or this process's user, may write it */
	RT_FILE_SECRET,  /* … nor read it */
};

/* Reads a file of at most `max_bytes`. The text has a NUL behind it, which does not count. RT_INVALID when the
 * file is too long or too open, RT_SYSTEM when it cannot be read: `error` says why, and names the file. What a
 * secret leaves in memory is erased by rt_file_erase. */
int rt_file_read(const char *path, enum rt_file_kind kind, size_t max_bytes, struct rt_buf *ret,
		 char *error, size_t error_size);
/* Overwrites and frees. */
void rt_file_erase(struct rt_buf *text);

#endif
