"""first_order.py - puts stock in, places an order, and says how it was decided.

  first_order.py [TARGET]   127.0.0.1:50051

With grpc and the messages that protoc compiles (examples/run python)."""
import sys
import uuid

import grpc
from tandem.inventory.v1 import inventory_service_pb2 as inventory
from tandem.order.v1 import order_pb2, order_service_pb2 as order

channel = grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")


def call(method, request, response):
    """Calls a method with a deadline: every call has one."""
    name = f"/{type(request).DESCRIPTOR.file.package}.{method}"
    stub = channel.unary_unary(name, type(request).SerializeToString, response.FromString)
    return stub(request, timeout=5, wait_for_ready=True)


try:
    call("InventoryService/AdjustStock", inventory.AdjustStockRequest(sku="tea", delta=10),
         inventory.AdjustStockResponse)
    request = order.PlaceOrderRequest(
        request_id=str(uuid.uuid4()),  # kept for a retry: the same id never places a second order
        customer_id="me",
        lines=[{"sku": "tea", "quantity": 2}],
        wait_for_decision=True,
    )
    placed = call("OrderService/PlaceOrder", request, order.PlaceOrderResponse).order
except grpc.RpcError as error:
    sys.exit(f"{error.code().name}: {error.details()}")
print(placed.order_id, order_pb2.OrderStatus.Name(placed.status))
