// first_order.js - puts stock in, places an order, and says how it was decided.
//
//   first_order.js PROTO [TARGET]   the folder of the .proto files; 127.0.0.1:50051
//
// With @grpc/grpc-js and @grpc/proto-loader, which read the .proto files when they run (examples/run node).
"use strict";
const { randomUUID } = require("node:crypto");
const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [proto, target = "127.0.0.1:50051"] = process.argv.slice(2);

// A client whose methods return promises and have a deadline: every call has one.
function connect(file, name) {
  const loaded = loader.loadSync(file, { includeDirs: [proto, "/usr/include"], enums: String, longs: Number });
  const service = name.split(".").reduce((part, key) => part[key], grpc.loadPackageDefinition(loaded));
  const client = new service(target, grpc.credentials.createInsecure());
  return (method, request) => {
    const deadline = Date.now() + 5000;
    return promisify(client[method]).call(client, request, new grpc.Metadata({ waitForReady: true }), { deadline });
  };
}

async function main() {
  const inventory = connect("tandem/inventory/v1/inventory_service.proto", "tandem.inventory.v1.InventoryService");
  const orders = connect("tandem/order/v1/order_service.proto", "tandem.order.v1.OrderService");
  await inventory("adjustStock", { sku: "tea", delta: 10 });
  const { order } = await orders("placeOrder", {
    requestId: randomUUID(), // kept for a retry: the same id never places a second order
    customerId: "me",
    lines: [{ sku: "tea", quantity: 2 }],
    waitForDecision: true,
  });
  console.log(order.orderId, order.status);
}

main().catch((error) => {
  console.error(`${grpc.status[error.code] ?? "failed"}: ${error.details ?? error.message}`);
  process.exitCode = 1;
});
