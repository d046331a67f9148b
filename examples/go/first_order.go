// first_order.go - puts stock in, places an order, and says how it was decided.
//
//	first_order [TARGET]   127.0.0.1:50051
//
// With the packages that protoc-gen-go makes (examples/run go).
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	inventory "tandem/inventory/v1"
	order "tandem/order/v1"
)

func firstOrder(target string) error {
	channel, err := grpc.Dial(target, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer channel.Close()
	// Every call has a deadline.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	stock := &inventory.AdjustStockRequest{Sku: "tea", Delta: 10}
	if _, err := inventory.NewInventoryServiceClient(channel).AdjustStock(ctx, stock, grpc.WaitForReady(true)); err != nil {
		return err
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	placed, err := order.NewOrderServiceClient(channel).PlaceOrder(ctx, &order.PlaceOrderRequest{
		RequestId:       fmt.Sprintf("%x", id), // kept for a retry: the same id never places a second order
		CustomerId:      "me",
		Lines:           []*order.OrderLine{{Sku: "tea", Quantity: 2}},
		WaitForDecision: true,
	})
	if err != nil {
		return err
	}
	fmt.Println(placed.Order.OrderId, placed.Order.Status)
	return nil
}

func main() {
	target := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	if err := firstOrder(target); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", status.Code(err), status.Convert(err).Message())
		os.Exit(1)
	}
}
