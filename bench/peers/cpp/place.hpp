// What both C++ peers make of a PlaceOrder request: the step's arguments and the answer.
#pragma once

#include "common.hpp"

#include "tandem/order/v1/order_events.pb.h"
#include "tandem/order/v1/order_service.grpc.pb.h"

inline bool valid(const tandem::order::v1::PlaceOrderRequest &r) {
	if (r.customer_id().empty() || r.customer_id().size() > 128 || r.lines_size() < 1 || r.lines_size() > 100)
		return false;
	for (const auto &l : r.lines())
		if (l.sku().empty() || l.sku().size() > 64 || l.quantity() < 1 || l.quantity() > 1000000)
			return false;
	return true;
}

inline std::vector<std::string> place_step(const std::string &sha, const std::string &id,
                                           const tandem::order::v1::PlaceOrderRequest &r) {
	tandem::order::v1::OrderPlaced placed;
	placed.mutable_content()->set_customer_id(r.customer_id());
	*placed.mutable_content()->mutable_lines() = r.lines();
	return {"EVALSHA", sha, "2", "order:{0}:o:" + id, kOrderStream, id, placed.SerializeAsString(), now_text()};
}

inline void fill(tandem::order::v1::PlaceOrderResponse *answer, const std::string &id,
                 const tandem::order::v1::PlaceOrderRequest &r) {
	auto *order = answer->mutable_order();
	order->set_order_id(id);
	order->set_customer_id(r.customer_id());
	*order->mutable_lines() = r.lines();
	order->set_status(tandem::order::v1::ORDER_STATUS_PENDING);
	order->set_version(1);
	auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(
	        std::chrono::system_clock::now().time_since_epoch()).count();
	order->mutable_create_time()->set_seconds(ms / 1000);
	order->mutable_create_time()->set_nanos(static_cast<int>(ms % 1000) * 1000000);
}
