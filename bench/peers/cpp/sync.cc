// The idiomatic C++ peer: gRPC's sync API, hiredis's sync API, one command a round trip.
//   peer-sync gateway LISTEN ORDER_TARGET
//   peer-sync order LISTEN REDIS_SOCKET LUA_DIR
//   peer-sync inventory REDIS_SOCKET LUA_DIR SKUS
#include "inventory.hpp"
#include "place.hpp"

#include <grpcpp/grpcpp.h>

#include <thread>

using namespace tandem::order::v1;

class GatewayPeer final : public OrderService::Service {
      public:
	explicit GatewayPeer(const std::string &target)
	        : stub_(OrderService::NewStub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()))) {}
	grpc::Status PlaceOrder(grpc::ServerContext *context, const PlaceOrderRequest *request,
	                        PlaceOrderResponse *response) override {
		if (!valid(*request))
			return {grpc::StatusCode::INVALID_ARGUMENT, "a limit is broken"};
		auto client = grpc::ClientContext::FromServerContext(*context);
		return stub_->PlaceOrder(client.get(), *request, response);
	}

      private:
	std::unique_ptr<OrderService::Stub> stub_;
};

class OrderPeer final : public OrderService::Service {
      public:
	OrderPeer(const std::string &socket, const std::string &lua) : socket_(socket) {
		Redis redis(socket);
		sha_ = redis.load(lua + "/place.lua");
	}
	grpc::Status PlaceOrder(grpc::ServerContext *, const PlaceOrderRequest *request,
	                        PlaceOrderResponse *response) override {
		thread_local Redis redis(socket_);
		const std::string id = new_order_id();
		redis.command(place_step(sha_, id, *request));
		fill(response, id, *request);
		return grpc::Status::OK;
	}

      private:
	std::string socket_, sha_;
};

static void serve(const std::string &listen, grpc::Service *service) {
	grpc::ServerBuilder builder;
	builder.AddListeningPort(listen, grpc::InsecureServerCredentials());
	builder.RegisterService(service);
	auto server = builder.BuildAndStart();
	std::puts("ready");
	std::fflush(stdout);
	server->Wait();
}

int main(int argc, char **argv) {
	const std::string role = argc > 1 ? argv[1] : "";
	if (role == "gateway" && argc == 4) {
		GatewayPeer gateway(argv[3]);
		serve(argv[2], &gateway);
	} else if (role == "order" && argc == 5) {
		std::thread decide(decide_main, argv[3], argv[4], false);
		OrderPeer peer(argv[3], argv[4]);
		serve(argv[2], &peer);
	} else if (role == "inventory" && argc == 5) {
		inventory_main(argv[2], argv[3], std::atoi(argv[4]), false);
	} else {
		die("usage: peer-sync gateway|order|inventory …");
	}
}
