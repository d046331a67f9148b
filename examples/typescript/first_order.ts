// first_order.ts - puts stock in, places an order, and says how it was decided.
//
//   first_order.js PROTO [TARGET]   the folder of the .proto files; 127.0.0.1:50051
//
// With @grpc/grpc-js and the types that proto-loader-gen-types makes of the .proto files (examples/run typescript).
import { randomUUID } from "node:crypto";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { ProtoGrpcType as Inventory } from "./types/inventory_service";
import type { ProtoGrpcType as Orders } from "./types/order_service";
import type { AdjustStockResponse__Output } from "./types/tandem/inventory/v1/AdjustStockResponse";
import type { PlaceOrderResponse__Output } from "./types/tandem/order/v1/PlaceOrderResponse";

const [proto, target = "127.0.0.1:50051"] = process.argv.slice(2);

function load<Type>(file: string): Type {
  const loaded = loadSync(file, { includeDirs: [proto, "/usr/include"], enums: String, longs: String });
  return grpc.loadPackageDefinition(loaded) as unknown as Type;
}

// A call as a promise, with a deadline: every call has one.
type Done<Answer> = (error: grpc.ServiceError | null, answer?: Answer) => void;
function call<Answer>(start: (options: grpc.CallOptions, done: Done<Answer>) => void): Promise<Answer> {
  return new Promise((resolve, reject) =>
    start({ deadline: Date.now() + 5000 }, (error, answer) => (answer ? resolve(answer) : reject(error))));
}

async function main() {
  const { tandem: { inventory } } = load<Inventory>("tandem/inventory/v1/inventory_service.proto");
  const { tandem: { order } } = load<Orders>("tandem/order/v1/order_service.proto");
  const stock = new inventory.v1.InventoryService(target, grpc.credentials.createInsecure());
  const orders = new order.v1.OrderService(target, grpc.credentials.createInsecure());

  await call<AdjustStockResponse__Output>((options, done) => stock.AdjustStock({ sku: "tea", delta: 10 }, options, done));
  const request = {
    requestId: randomUUID(), // kept for a retry: the same id never places a second order
    customerId: "me",
    lines: [{ sku: "tea", quantity: 2 }],
    waitForDecision: true,
  };
  const placed = await call<PlaceOrderResponse__Output>((options, done) => orders.PlaceOrder(request, options, done));
  console.log(placed.order?.orderId, placed.order?.status);
}

main().catch((error: grpc.ServiceError) => {
  console.error(`${grpc.status[error.code] ?? "failed"}: ${error.details ?? error.message}`);
  process.exitCode = 1;
});
