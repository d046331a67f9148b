// FirstOrder.java - puts stock in, places an order, and says how it was decided.
//
//   FirstOrder [TARGET]   127.0.0.1:50051
//
// With the classes that protoc and its plugin for gRPC make (examples/run java).
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import tandem.inventory.v1.AdjustStockRequest;
import tandem.inventory.v1.InventoryServiceGrpc;
import tandem.order.v1.Order;
import tandem.order.v1.OrderLine;
import tandem.order.v1.OrderServiceGrpc;
import tandem.order.v1.PlaceOrderRequest;

public final class FirstOrder {
  public static void main(String[] args) throws InterruptedException {
    String target = args.length > 0 ? args[0] : "127.0.0.1:50051";
    ManagedChannel channel = ManagedChannelBuilder.forTarget(target).usePlaintext().build();
    try {
      // Every call has a deadline.
      InventoryServiceGrpc.newBlockingStub(channel)
          .withWaitForReady()
          .withDeadlineAfter(5, TimeUnit.SECONDS)
          .adjustStock(AdjustStockRequest.newBuilder().setSku("tea").setDelta(10).build());
      PlaceOrderRequest request =
          PlaceOrderRequest.newBuilder()
              .setRequestId(UUID.randomUUID().toString()) // kept for a retry: the same id never places a second order
              .setCustomerId("me")
              .addLines(OrderLine.newBuilder().setSku("tea").setQuantity(2))
              .setWaitForDecision(true)
              .build();
      Order order =
          OrderServiceGrpc.newBlockingStub(channel)
              .withDeadlineAfter(5, TimeUnit.SECONDS)
              .placeOrder(request)
              .getOrder();
      System.out.println(order.getOrderId() + " " + order.getStatus());
    } catch (StatusRuntimeException error) {
      System.err.println(error.getStatus().getCode() + ": " + error.getStatus().getDescription());
      System.exit(1);
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }
}
