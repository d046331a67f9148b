// The idiomatic C++ peer: gRPC's sync API, hiredis's sync API, one command a round trip.
//   peer-sync gateway LISTEN ORDER_TARGET
//   peer-sync order LISTEN REDIS_SOCKET LUA_DIR
//   peer-sync inventory REDIS_SOCKET LUA_DIR SKUS
#include "inventory.hpp"
#include "place.hpp"

#include <grpcpp/grpcpp.h>

#include <mutex>
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
		const std::string id = new_order_id();
		auto redis = take();
		redis->command(place_step(sha_, id, *request));
		give_back(std::move(redis));
		fill(response, id, *request);
		return grpc::Status::OK;
	}

      private:
	// A pool of connections: gRPC makes and ends threads as it likes.
	std::unique_ptr<Redis> take() {
		std::lock_guard<std::mutex> lock(mutex_);
		if (idle_.empty())
			return std::make_unique<Redis>(socket_);
		auto redis = std::move(idle_.back());
		idle_.pop_back();
		return redis;
	}
	void give_back(std::unique_ptr<Redis> redis) {
		std::lock_guard<std::mutex> lock(mutex_);
		idle_.push_back(std::move(redis));
	}
	std::string socket_, sha_;
	std::mutex mutex_;
	std::vector<std::unique_ptr<Redis>> idle_;
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
	deadlock_detection_off();
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
