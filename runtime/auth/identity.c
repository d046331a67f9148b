/* identity.c - roles and what else is known of a caller. */
#include <stdio.h>
#include <string.h>

#include "auth_internal.h"

const char *rt_role_name(enum rt_role role)
{
#define ROW(name, text) [name] = text,
	static const char *const names[] = { RT_ROLE_MAP(ROW) };
#undef ROW
	return (size_t)role < RT_LENGTH(names) ? names[role] : "unknown";
}

bool rt_role_parse(const char *text, size_t length, enum rt_role *ret)
{
	for (int i = 0; i < RT_ROLES; i++) {
		const char *name = rt_role_name((enum rt_role)i);

		if (strlen(name) == length && memcmp(name, text, length) == 0) {
			*ret = (enum rt_role)i;
			return true;
		}
	}
	return false;
}

const char *rt_auth_way_name(enum rt_auth_way way)
{
	static const char *const names[] = { "nothing", "key", "token", "certificate" };

	return (size_t)way < RT_LENGTH(names) ? names[way] : "unknown";
}

bool auth_text_fits(const char *text, size_t size)
{
	size_t length = strnlen(text, size);

	return length > 0 && length < size && rt_text_printable(text, NULL);
}

void auth_identity_set(struct rt_identity *ret, enum rt_auth_way way, enum rt_role role,
		       const char *name, const char *owner, int64_t expires_ms)
{
	memset(ret, 0, sizeof(*ret));
	ret->role = role;
	ret->way = way;
	ret->expires_ms = expires_ms;
	snprintf(ret->by, sizeof(ret->by), "%s", rt_auth_way_name(way));
	memcpy(ret->name, name, strlen(name));
	if (owner != NULL)
		memcpy(ret->owner, owner, strlen(owner));
}

void rt_identity_actor(const struct rt_identity *identity, char text[RT_ACTOR_TEXT])
{
	bool by = identity->by[0] != '\0';

	text[0] = '\0';
	if (identity->name[0] != '\0')
		snprintf(text, RT_ACTOR_TEXT, "%s %s%s%s%s", rt_role_name(identity->role),
			 identity->name, by ? " (" : "", identity->by, by ? ")" : "");
}

bool rt_actor_good(const char *text)
{
	return text[0] == '\0' || auth_text_fits(text, RT_ACTOR_TEXT);
}
