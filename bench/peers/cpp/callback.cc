// The tuned C++ peer: gRPC's callback API, atomic Lua steps pipelined over one Redis connection.
//   peer-callback gateway LISTEN ORDER_TARGET
//   peer-callback order LISTEN REDIS_SOCKET LUA_DIR
//   peer-callback inventory REDIS_SOCKET LUA_DIR SKUS
//
// The order process gathers the steps of all calls that wait: one thread sends what is queued in
// one write, reads the answers and finishes the calls.
#include "inventory.hpp"
#include "place.hpp"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

using namespace tandem::order::v1;

class GatewayPeer final : public OrderService::CallbackService {
      public:
	explicit GatewayPeer(const std::string &target) {
		for (int i = 0; i < 4; i++) {
			grpc::ChannelArguments args;
			args.SetInt("peer.channel", i);
			stubs_.push_back(OrderService::NewStub(
			        grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), args)));
		}
	}
	grpc::ServerUnaryReactor *PlaceOrder(grpc::CallbackServerContext *context, const PlaceOrderRequest *request,
	                                     PlaceOrderResponse *response) override {
		auto *reactor = context->DefaultReactor();
		if (!valid(*request)) {
			reactor->Finish({grpc::StatusCode::INVALID_ARGUMENT, "a limit is broken"});
			return reactor;
		}
		auto *client = grpc::ClientContext::FromCallbackServerContext(*context).release();
		stubs_[next_++ % stubs_.size()]->async()->PlaceOrder(
		        client, request, response, [reactor, client](grpc::Status status) {
			        delete client;
			        reactor->Finish(status);
		        });
		return reactor;
	}

      private:
	std::vector<std::unique_ptr<OrderService::Stub>> stubs_;
	std::atomic<size_t> next_{0};
};

class OrderPeer final : public OrderService::CallbackService {
      public:
	OrderPeer(const std::string &socket, const std::string &lua) : redis_(socket) {
		sha_ = redis_.load(lua + "/place.lua");
		sender_ = std::thread([this] { send(); });
	}
	grpc::ServerUnaryReactor *PlaceOrder(grpc::CallbackServerContext *context, const PlaceOrderRequest *request,
	                                     PlaceOrderResponse *response) override {
		auto *reactor = context->DefaultReactor();
		const std::string id = new_order_id();
		fill(response, id, *request);
		Waiting waiting{place_step(sha_, id, *request), reactor};
		std::lock_guard<std::mutex> lock(mutex_);
		queue_.push_back(std::move(waiting));
		if (queue_.size() == 1)
			wake_.notify_one();
		return reactor;
	}

      private:
	struct Waiting {
		std::vector<std::string> step;
		grpc::ServerUnaryReactor *reactor;
	};
	void send() {
		for (;;) {
			std::vector<Waiting> batch;
			{
				std::unique_lock<std::mutex> lock(mutex_);
				wake_.wait(lock, [this] { return !queue_.empty(); });
				batch.swap(queue_);
			}
			for (const auto &w : batch)
				redis_.append(w.step);
			for (auto &w : batch) {
				Reply r = redis_.reply();
				w.reactor->Finish(r->type == REDIS_REPLY_ERROR
				                          ? grpc::Status(grpc::StatusCode::UNAVAILABLE, r->str)
				                          : grpc::Status::OK);
			}
		}
	}
	Redis redis_;
	std::string sha_;
	std::mutex mutex_;
	std::condition_variable wake_;
	std::vector<Waiting> queue_;
	std::thread sender_;
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
		std::thread decide(decide_main, argv[3], argv[4], true);
		OrderPeer peer(argv[3], argv[4]);
		serve(argv[2], &peer);
	} else if (role == "inventory" && argc == 5) {
		inventory_main(argv[2], argv[3], std::atoi(argv[4]), true);
	} else {
		die("usage: peer-callback gateway|order|inventory …");
	}
}
