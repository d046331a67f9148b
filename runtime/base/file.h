/* file.h - reading a small file at once, and whether others may read or change it. */
#ifndef RT_FILE_H
#define RT_FILE_H

#include "rt.h"

enum rt_file_kind {
	RT_FILE_PLAIN,
	RT_FILE_TRUSTED, /* nobody but its owner, who is root or this process's user, may write it */
	RT_FILE_SECRET, /* … nor read it; but for a credential of systemd, whose list of rights shows as its group's */
};

/* A process that has read a secret leaves no core, and only root can attach to it or read its memory (PR_SET_DUMPABLE);
 * its entries in /proc are root's then. Called before, this leaves it as it was, for developers. */
void rt_file_allow_dumps(void);
/* The same before a secret comes in another way than from a file. False: the kernel refuses, with errno. */
bool rt_file_protect(void);

/* Reads a file of at most `max_bytes`. The text has a NUL behind it, which does not count. RT_INVALID when it is
 * no file, too long or too open, RT_SYSTEM when it cannot be read: `error` says why, and names the file. What a
 * secret leaves in memory is erased by rt_file_erase. */
int rt_file_read(const char *path, enum rt_file_kind kind, size_t max_bytes, struct rt_buf *ret,
		 char *error, size_t error_size);
/* Overwrites and frees. */
void rt_file_erase(struct rt_buf *text);

#endif
