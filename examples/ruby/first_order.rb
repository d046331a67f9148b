# first_order.rb - puts stock in, places an order, and says how it was decided.
#
#   first_order.rb [TARGET]   127.0.0.1:50051
#
# With grpc and the classes that grpc_tools_ruby_protoc makes (examples/run ruby).
require "securerandom"
require "tandem/inventory/v1/inventory_service_services_pb"
require "tandem/order/v1/order_service_services_pb"

target = ARGV[0] || "127.0.0.1:50051"
inventory = Tandem::Inventory::V1::InventoryService::Stub.new(target, :this_channel_is_insecure)
orders = Tandem::Order::V1::OrderService::Stub.new(target, :this_channel_is_insecure)

begin
  # Every call has a deadline.
  inventory.adjust_stock(Tandem::Inventory::V1::AdjustStockRequest.new(sku: "tea", delta: 10), deadline: Time.now + 5)
  request = Tandem::Order::V1::PlaceOrderRequest.new(
    request_id: SecureRandom.uuid, # kept for a retry: the same id never places a second order
    customer_id: "me",
    lines: [Tandem::Order::V1::OrderLine.new(sku: "tea", quantity: 2)],
    wait_for_decision: true
  )
  order = orders.place_order(request, deadline: Time.now + 5).order
rescue GRPC::BadStatus => error
  abort "#{error.class.name.split("::").last}: #{error.details}"
end
puts "#{order.order_id} #{order.status}"
