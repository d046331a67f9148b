/* tls.h - certificates for servers and channels, from PEM files that are read again when they change.
 *
 * TLS itself is gRPC's: version 1.2 or later, ALPN h2, and the other side's name checked; that of the admin port is
 * GnuTLS's (service/admin_tls.c), with the same files. New connections use the files as they are now, and a channel replaces its connections one by one; calls go on undisturbed. Files that
 * cannot be used (they do not fit together, others may read the key) are refused: at the start, and later with an
 * error in the log, while what was read before stays in use. */
#ifndef RT_TLS_H
#define RT_TLS_H

#include "base/base.h"
#include "loop/loop.h"

struct rt_tls; /* opaque */

struct rt_tls_options {
	const char *certificate,
		*key; /* a chain, its own first, and its key; a client may have none: "" */
	const char *
		authorities; /* who has to sign the other side's; a server that has none ("") asks for none */
	bool required;              /* of a server: clients without a certificate are refused */
	bool quiet;                 /* only what is wrong is logged */
	struct rt_metrics *metrics; /* NULL: none */
	const char *purpose; /* kept; a label, and what the log calls it: "server", "upstream" */
};

/* RT_INVALID or RT_SYSTEM after logging what is wrong with which file. */
int rt_tls_new(struct rt_loop *loop, const struct rt_tls_options *options, struct rt_tls **ret);
/* After the servers and channels that use it. Takes NULL. */
void rt_tls_free(struct rt_tls *tls);

/* Is told when other files are in use; embed it. It leaves by rt_list_remove. */
struct rt_tls_user {
	struct rt_list link;
	void (*changed)(struct rt_tls_user *user);
};
void rt_tls_use(struct rt_tls *tls, struct rt_tls_user *user);

/* What the files in use hold, each a text with a NUL behind it; NULL: there is no such file. */
struct rt_tls_pems {
	const char *certificate, *key, *authorities;
	bool required;
};
/* On the loop thread; good until its next turn. */
void rt_tls_pems(const struct rt_tls *tls, struct rt_tls_pems *ret);

#endif
