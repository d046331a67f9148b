/* page_token.h - the tokens that pages of a list are turned with (AIP-158).
 *
 * A token is the position behind which its list goes on, and a hash of list and position: what was
 * cut or changed, and what belongs to another list, is no token of this one. A list is named by its
 * method and by what it is restricted to; the size of a page is no part of it, and may change from
 * page to page. */
#ifndef PROTO_PAGE_TOKEN_H
#define PROTO_PAGE_TOKEN_H

#include "rpc/rpc.h"

/* The token of `position` in the list; freed by the caller. */
char *page_token_new(const char *list, const char *position);
/* The position, a part of `token`; NULL: it is no token of this list. */
const char *page_token_read(const char *list, const char *token);
/* The answer to such a one: INVALID_ARGUMENT that names page_token. */
void page_token_status(struct rt_status *status);

#endif
