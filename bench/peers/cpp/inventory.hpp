// The inventory and decision consumers of the C++ peers. `pipeline` sends the steps of one read
// together; without it each step is a round trip, as the idiomatic client does it.
#pragma once

#include "common.hpp"

#include "tandem/order/v1/order_events.pb.h"

inline void run_steps(Redis &redis, const std::vector<std::vector<std::string>> &steps, bool pipeline) {
	if (!pipeline) {
		for (const auto &s : steps)
			redis.command(s);
		return;
	}
	for (const auto &s : steps)
		redis.append(s);
	for (size_t i = 0; i < steps.size(); i++)
		redis.reply();
}

// Reads order events for ever: reserves for OrderPlaced, acknowledges the rest.
inline void inventory_main(const std::string &socket, const std::string &lua, int skus, bool pipeline) {
	Redis redis(socket);
	const std::string reserve = redis.load(lua + "/reserve.lua");
	for (int i = 0; i < skus; i++) {
		char sku[32];
		std::snprintf(sku, sizeof sku, "load-%04d", i);
		redis.append({"HSET", kStock, sku, "1000000000"});
	}
	for (int i = 0; i < skus; i++)
		redis.reply();
	redis.group(kOrderStream, "inventory");
	std::puts("ready");
	std::fflush(stdout);
	for (;;) {
		Reply r = redis.command({"XREADGROUP", "GROUP", "inventory", "one", "COUNT", "128", "BLOCK", "5000",
		                         "STREAMS", kOrderStream, ">"});
		std::vector<std::vector<std::string>> steps;
		std::vector<std::string> ignored{"XACK", kOrderStream, "inventory"};
		const std::string now = now_text();
		for (const Entry &e : entries_of(r.get())) {
			if (e.type != "tandem.order.v1.OrderPlaced") {
				ignored.push_back(e.id);
				continue;
			}
			tandem::order::v1::OrderPlaced placed;
			if (!placed.ParseFromString(e.data))
				continue;
			std::vector<std::string> step{"EVALSHA", reserve, "4", "inventory:{0}:r:" + e.subject, kStock,
			                              kInventoryStream, kOrderStream, e.subject, e.id, now};
			for (const auto &line : placed.content().lines()) {
				step.push_back(line.sku());
				step.push_back(std::to_string(line.quantity()));
			}
			steps.push_back(std::move(step));
		}
		if (ignored.size() > 3)
			steps.push_back(std::move(ignored));
		run_steps(redis, steps, pipeline);
	}
}

// Reads inventory's answers for ever and decides the orders.
inline void decide_main(const std::string &socket, const std::string &lua, bool pipeline) {
	Redis redis(socket);
	const std::string decide = redis.load(lua + "/decide.lua");
	redis.group(kInventoryStream, "order");
	for (;;) {
		Reply r = redis.command({"XREADGROUP", "GROUP", "order", "one", "COUNT", "128", "BLOCK", "5000",
		                         "STREAMS", kInventoryStream, ">"});
		std::vector<std::vector<std::string>> steps;
		const std::string now = now_text();
		for (const Entry &e : entries_of(r.get())) {
			bool yes = e.type == "tandem.inventory.v1.InventoryReserved";
			steps.push_back({"EVALSHA", decide, "3", "order:{0}:o:" + e.subject, kOrderStream,
			                 kInventoryStream, e.subject, e.id, now, yes ? "RESERVED" : "REJECTED",
			                 yes ? "tandem.order.v1.OrderReserved" : "tandem.order.v1.OrderRejected"});
		}
		run_steps(redis, steps, pipeline);
	}
}
