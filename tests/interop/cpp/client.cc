// client - a client of Tandem in C++, as one is usually written: generated stubs, TLS, a certificate or a token.
//
//   client TARGET CA [CERTIFICATE KEY | TOKEN]    all but TARGET are files
//
// Reads what to do from standard input, a line each, and answers each with a line, CODE [ORDER_ID STATUS]:
//   place CUSTOMER_ID SKU QUANTITY    places an order and waits for the decision
//   get ORDER_ID
// CODE is the number of the gRPC status.
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>

#include <grpcpp/grpcpp.h>

#include "tandem/order/v1/order_service.grpc.pb.h"

namespace order = tandem::order::v1;

static std::string contents(const char *path)
{
	std::ifstream file(path);
	std::stringstream text;

	text << file.rdbuf();
	return text.str();
}

static std::shared_ptr<grpc::ChannelCredentials> credentials(int argc, char **argv)
{
	grpc::SslCredentialsOptions tls;

	tls.pem_root_certs = contents(argv[2]);
	if (argc == 5) {
		tls.pem_cert_chain = contents(argv[3]);
		tls.pem_private_key = contents(argv[4]);
	}
	if (argc == 4)
		return grpc::CompositeChannelCredentials(grpc::SslCredentials(tls),
							 grpc::AccessTokenCredentials(contents(argv[3])));
	return grpc::SslCredentials(tls);
}

static void print(const grpc::Status &status, const order::Order &order)
{
	std::cout << status.error_code();
	if (status.ok())
		std::cout << ' ' << order.order_id() << ' ' << order::OrderStatus_Name(order.status());
	else
		std::cerr << status.error_message() << '\n';
	std::cout << std::endl;
}

static void place(order::OrderService::Stub *stub, grpc::ClientContext *context, std::istream &words)
{
	order::PlaceOrderRequest request;
	order::PlaceOrderResponse response;
	order::OrderLine *line = request.add_lines();
	std::string customer_id, sku;
	int quantity;

	words >> customer_id >> sku >> quantity;
	request.set_customer_id(customer_id);
	request.set_wait_for_decision(true);
	line->set_sku(sku);
	line->set_quantity(quantity);
	grpc::Status status = stub->PlaceOrder(context, request, &response);
	print(status, response.order());
}

static void get(order::OrderService::Stub *stub, grpc::ClientContext *context, std::istream &words)
{
	order::GetOrderRequest request;
	order::GetOrderResponse response;

	words >> *request.mutable_order_id();
	grpc::Status status = stub->GetOrder(context, request, &response);
	print(status, response.order());
}

int main(int argc, char **argv)
{
	if (argc < 3 || argc > 5) {
		std::cerr << "usage: client TARGET CA [CERTIFICATE KEY | TOKEN]\n";
		return 2;
	}
	auto stub = order::OrderService::NewStub(grpc::CreateChannel(argv[1], credentials(argc, argv)));
	std::string text;

	while (std::getline(std::cin, text)) {
		grpc::ClientContext context;
		std::istringstream words(text);
		std::string what;

		context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
		words >> what;
		if (what == "place")
			place(stub.get(), &context, words);
		else
			get(stub.get(), &context, words);
	}
	return 0;
}
