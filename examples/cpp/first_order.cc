// first_order.cc - puts stock in, places an order, and says how it was decided.
//
//   first_order [TARGET]   127.0.0.1:50051
//
// With the classes that protoc and its plugin for gRPC make (examples/run cpp).
#include <chrono>
#include <iostream>
#include <random>
#include <sstream>

#include <grpcpp/grpcpp.h>

#include "tandem/inventory/v1/inventory_service.grpc.pb.h"
#include "tandem/order/v1/order_service.grpc.pb.h"

using namespace tandem;

// Every call has a deadline.
static void set_deadline(grpc::ClientContext *context)
{
	context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
	context->set_wait_for_ready(true);
}

static std::string new_id()
{
	std::random_device random;
	std::ostringstream id;

	for (int i = 0; i < 4; i++)
		id << std::hex << random() << '-';
	return id.str();
}

static int fail(const grpc::Status &status)
{
	std::cerr << "status " << status.error_code() << ": " << status.error_message() << '\n';
	return 1;
}

int main(int argc, char **argv)
{
	const char *target = argc > 1 ? argv[1] : "127.0.0.1:50051";
	auto channel = grpc::CreateChannel(target, grpc::InsecureChannelCredentials());
	grpc::ClientContext adjusting, placing;
	inventory::v1::AdjustStockRequest stock;
	inventory::v1::AdjustStockResponse adjusted;
	order::v1::PlaceOrderRequest request;
	order::v1::PlaceOrderResponse placed;

	set_deadline(&adjusting);
	stock.set_sku("tea");
	stock.set_delta(10);
	auto status = inventory::v1::InventoryService::NewStub(channel)->AdjustStock(&adjusting, stock, &adjusted);
	if (!status.ok())
		return fail(status);

	set_deadline(&placing);
	request.set_request_id(new_id()); // kept for a retry: the same id never places a second order
	request.set_customer_id("me");
	request.set_wait_for_decision(true);
	auto *line = request.add_lines();
	line->set_sku("tea");
	line->set_quantity(2);
	status = order::v1::OrderService::NewStub(channel)->PlaceOrder(&placing, request, &placed);
	if (!status.ok())
		return fail(status);
	std::cout << placed.order().order_id() << ' ' << order::v1::OrderStatus_Name(placed.order().status()) << '\n';
	return 0;
}
