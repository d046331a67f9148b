/* access.c - the table of roles; see access.h. A method without a row does not compile: the list of methods is made
 * from the .proto files (cmake/access.cmake). docs/security.md says what each role is for. */
#include "access.h"

#include <string.h>

#define PENDING_RETRY_MS 1000

enum {
	ANYONE = 1 << RT_ROLE_ANONYMOUS,
	CUSTOMER = 1 << RT_ROLE_CUSTOMER, /* with a token that has its customer_id */
	SUPPORT = 1 << RT_ROLE_SUPPORT,   /* looks at anybody's orders */
	STOCK = 1 << RT_ROLE_STOCK,       /* looks after stock */
	GATEWAY = 1 << RT_ROLE_GATEWAY,   /* tandem-gateway itself, on nobody's behalf */
	OPERATOR = 1 << RT_ROLE_OPERATOR,
	ALL = ANYONE | CUSTOMER | SUPPORT | STOCK | GATEWAY | OPERATOR,
};

#define ROW(method, roles) access_##method = (roles)
enum {
	/* orders: a customer's own, or anybody's */
	ROW(OrderService_PlaceOrder, CUSTOMER | OPERATOR),
	ROW(OrderService_BatchPlaceOrders, CUSTOMER | OPERATOR),
	ROW(OrderService_StreamOrders, CUSTOMER | OPERATOR),
	ROW(OrderService_GetOrder, CUSTOMER | SUPPORT | OPERATOR),
	ROW(OrderService_ListOrders, CUSTOMER | SUPPORT | OPERATOR),
	ROW(OrderService_WatchOrder, CUSTOMER | SUPPORT | OPERATOR),
	ROW(OrderService_ConfirmOrder, CUSTOMER | OPERATOR),
	ROW(OrderService_CancelOrder, CUSTOMER | OPERATOR),
	ROW(OrderService_BatchConfirmOrders, CUSTOMER | OPERATOR),
	ROW(OrderService_BatchCancelOrders, CUSTOMER | OPERATOR),
	ROW(OrderService_ExtendHold, CUSTOMER | OPERATOR),
	ROW(OrderService_ReturnOrder, CUSTOMER | OPERATOR),
	ROW(OrderService_ExplainOrder, SUPPORT | OPERATOR),
	/* what gateways place, after they have checked it */
	ROW(PlacementService_Place, GATEWAY | OPERATOR),
	/* stock: what is available is no secret to customers, who holds it is */
	ROW(InventoryService_GetStock, CUSTOMER | SUPPORT | STOCK | OPERATOR),
	ROW(InventoryService_ListStock, SUPPORT | STOCK | OPERATOR),
	ROW(InventoryService_GetReservation, SUPPORT | STOCK | OPERATOR),
	ROW(InventoryService_ListReservations, SUPPORT | STOCK | OPERATOR),
	ROW(InventoryService_AdjustStock, STOCK | OPERATOR),
	ROW(InventoryService_BatchAdjustStock, STOCK | OPERATOR),
	ROW(InventoryService_SetLowStockThreshold, STOCK | OPERATOR),
	/* the archive: orders of the past, and who moved stock */
	ROW(ArchiveService_SearchOrders, CUSTOMER | SUPPORT | OPERATOR),
	ROW(ArchiveService_GetArchivedOrder, CUSTOMER | SUPPORT | OPERATOR),
	ROW(ArchiveService_ListStockMovements, SUPPORT | STOCK | OPERATOR),
	ROW(ArchiveService_ExportOrders, CUSTOMER | SUPPORT | OPERATOR),
	/* whatever customer they are of: the gateway compares */
	ROW(ArchiveService_FindOrders, GATEWAY | OPERATOR),
	ROW(ArchiveService_ListArchivedStreams, SUPPORT | OPERATOR),
	/* gRPC's own: load balancers ask for health */
	ROW(Health_Check, ALL),
	ROW(Health_Watch, SUPPORT | STOCK | GATEWAY | OPERATOR),
	ROW(ServerReflection_ServerReflectionInfo, OPERATOR),
};

static const struct {
	const char *path;
	unsigned int roles;
} rows[] = {
#define METHOD(package, service, method)                                                           \
	{ "/" #package "." #service "/" #method, access_##service##_##method },
#include "access_methods.h"
#undef METHOD
};

unsigned int access_roles(const char *path)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].path, path) == 0)
			return rows[i].roles;
	return 0;
}

bool access_is_own(const struct rt_call *call, const char *customer_id)
{
	const char *owner = rt_call_identity(call)->owner;

	return owner[0] == '\0' || strcmp(owner, customer_id) == 0;
}

bool access_customer(const struct rt_call *call, const char *customer_id, struct rt_status *status)
{
	if (access_is_own(call, customer_id))
		return true;
	rt_status_set(status, RT_CODE_PERMISSION_DENIED,
		      "customer_id is not the one that the caller may act for");
	rt_status_info(status, "CUSTOMER");
	return false;
}

void access_pending(struct rt_status *status, int64_t limit)
{
	rt_status_set(
		status, RT_CODE_RESOURCE_EXHAUSTED,
		"the customer has %lld orders that inventory has not answered, or more: no further "
		"ones are taken until some are",
		(long long)limit);
	rt_status_info(status, "PENDING_PER_CALLER");
	rt_status_retry(status, PENDING_RETRY_MS);
}
