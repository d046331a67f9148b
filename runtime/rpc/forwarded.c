/* forwarded.c - what a gateway says of the caller for whom it calls, in two values of metadata:
 *
 *   tandem-caller-bin        role, owner and name, with a NUL between them
 *   tandem-caller-from-bin   how it has said who it is, a NUL, and its address
 *
 * The second may be missing, as it is from gateways of before there was one. Whether the word of who sends them counts
 * is for callers.c to say; all the same nothing is taken over that could not be an identity. */
#include <stdio.h>
#include <string.h>

#include "callers_internal.h"

size_t rpc_caller_pack(const struct rt_identity *identity, char bytes[RPC_CALLER_BYTES])
{
	return (size_t)snprintf(bytes, RPC_CALLER_BYTES, "%s%c%s%c%s", rt_role_name(identity->role),
				'\0', identity->owner, '\0', identity->name);
}

/* Addresses, and names of unix sockets as far as they are as plain. */
static bool is_peer(const char *text)
{
	static const char characters[] = "0123456789abcdefghijklmnopqrstuvwxyz"
					 "ABCDEFGHIJKLMNOPQRSTUVWXYZ.:%[]-_/@";
	size_t length = strspn(text, characters);

	return length < RPC_PEER_TEXT && text[length] == '\0';
}

size_t rpc_from_pack(const struct rt_identity *identity, const char *peer,
		     char bytes[RPC_FROM_BYTES])
{
	return (size_t)snprintf(bytes, RPC_FROM_BYTES, "%s%c%s", identity->by, '\0',
				peer != NULL && is_peer(peer) ? peer : "");
}

/* Takes the printable text up to the next NUL, or all that is left if it is the `last`, into `ret`. */
static bool read_text(const char **at, const char *end, bool last, char *ret, size_t size)
{
	const char *stop = memchr(*at, '\0', (size_t)(end - *at));
	size_t length;

	if (last != (stop == NULL))
		return false;
	if (stop == NULL)
		stop = end;
	length = (size_t)(stop - *at);
	if (length >= size)
		return false;
	memcpy(ret, *at, length);
	ret[length] = '\0';
	*at = stop + !last;
	return rt_text_printable(ret, NULL);
}

static bool read_from(const grpc_slice *value, struct rt_identity *ret, char peer[RPC_PEER_TEXT])
{
	const char *at = (const char *)GRPC_SLICE_START_PTR(*value);
	const char *end = at + GRPC_SLICE_LENGTH(*value);

	return read_text(&at, end, false, ret->by, sizeof(ret->by)) &&
	       read_text(&at, end, true, peer, RPC_PEER_TEXT) && is_peer(peer);
}

bool rpc_forwarded_read(const grpc_slice *caller, const grpc_slice *from, struct rt_identity *ret,
			char peer[RPC_PEER_TEXT])
{
	const char *at = (const char *)GRPC_SLICE_START_PTR(*caller);
	const char *end = at + GRPC_SLICE_LENGTH(*caller);
	char role[RT_IDENTITY_NAME];

	memset(ret, 0, sizeof(*ret));
	peer[0] = '\0';
	if (!read_text(&at, end, false, role, sizeof(role)) ||
	    !rt_role_parse(role, strlen(role), &ret->role) ||
	    !read_text(&at, end, false, ret->owner, sizeof(ret->owner)) ||
	    !read_text(&at, end, true, ret->name, sizeof(ret->name)))
		return false;
	ret->expires_ms = INT64_MAX;
	return from == NULL || read_from(from, ret, peer);
}

static int hexadecimal(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c == '\0' ? NULL : strchr(digits, c | 0x20);

	return at == NULL ? -1 : (int)(at - digits);
}

char *rpc_peer_text(struct rt_arena *arena, const char *uri)
{
	bool address = strncmp(uri, "ipv4:", 5) == 0 || strncmp(uri, "ipv6:", 5) == 0;
	const char *from = address ? uri + 5 : uri;
	char *text = rt_arena_copy(arena, from, strlen(from)), *to = text;

	for (from = text; address && *from != '\0'; to++) {
		int high = *from == '%' ? hexadecimal(from[1]) : -1;
		int low = high >= 0 ? hexadecimal(from[2]) : -1;

		*to = low >= 0 ? (char)(16 * high + low) : *from;
		from += low >= 0 ? 3 : 1;
	}
	if (address)
		*to = '\0';
	return text;
}
