/* page_token.h - the tokens for reading a list page by page (AIP-158).
 *
 * A token is the position after which the list continues, and a hash of list and position: a token
 * that was cut or changed, or belongs to another list, is refused. A list is named by its method and
 * its filter; the page size is not part of the name, and may change from page to page. */
#ifndef PROTO_PAGE_TOKEN_H
#define PROTO_PAGE_TOKEN_H

#include "rpc/rpc.h"

/* The token of `position` in the list; freed by the caller. */
char *page_token_new(const char *list, const char *position);
/* The position, a part of `token`; NULL: it is not a token of this list. */
const char *page_token_read(const char *list, const char *token);
/* The answer to a token of another list: INVALID_ARGUMENT that names page_token. */
void page_token_status(struct rt_status *status);

#endif
