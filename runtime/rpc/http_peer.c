/* http_peer.c - the other end of a connection that another port reads; see rpc.h. */
#include "server_internal.h"

struct rt_http_peer *rt_http_peer_new(const char *uri, const char *const *names, size_t count)
{
	struct rt_http_peer *peer = rt_alloc(sizeof(*peer));

	peer->users = 1;
	peer->uri = rt_strdup(uri);
	peer->has_certificate = names != NULL;
	peer->names = rt_alloc((count + 1) * sizeof(*peer->names));
	for (; names != NULL && peer->name_count < count; peer->name_count++)
		peer->names[peer->name_count] = rt_strdup(names[peer->name_count]);
	return peer;
}

struct rt_http_peer *rt_http_peer_hold(struct rt_http_peer *peer)
{
	peer->users++;
	return peer;
}

void rt_http_peer_free(struct rt_http_peer *peer)
{
	if (peer == NULL || --peer->users > 0)
		return;
	for (size_t i = 0; i < peer->name_count; i++)
		free(peer->names[i]);
	free(peer->names);
	free(peer->uri);
	free(peer);
}
