/* certificates.h - authorities and certificates in PEM files, for tests. Everything here aborts when it fails. */
#ifndef TESTS_CERTIFICATES_H
#define TESTS_CERTIFICATES_H

/* Writes <folder>/<name>.crt and <folder>/<name>.key: an authority that signs itself, or a certificate that
 * <folder>/<authority> signs for `names` ("DNS:localhost,IP:127.0.0.1"), its subject CN=<name>. Valid from a day ago until
 * `days` from now. Replaces what is there, each file in one step. */
void certificates_authority(const char *folder, const char *name);
void certificates_issue(const char *folder, const char *authority, const char *name,
			const char *names, int days);
/* Valid from so many days from now on. */
void certificates_issue_from(const char *folder, const char *authority, const char *name,
			     const char *names, int from_days, int days);
/* Copies a file of the folder, with its mode. */
void certificates_copy(const char *folder, const char *from, const char *to);
/* Removes the folder and the files in it. */
void certificates_remove(const char *folder);

#endif
