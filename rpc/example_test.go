package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// A client in fifteen lines: any node will do, and there are three ways out.
func ExampleClient_Submit() {
	client, err := rpc.NewClient([]string{"127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := client.Submit(ctx, &pb.SubmitRequest{Branches: []*pb.Branch{
		{Participant: "seats", Payload: []byte(`{"ops": [{"op": "add", "key": "flight/LH1", "delta": -1, "min": 0}]}`)},
		{Participant: "payments", Payload: []byte(`{"ops": [{"op": "add", "key": "acct/ann", "delta": -120, "min": 0}]}`)},
	}})
	if unknown, ok := errors.AsType[*rpc.UnknownOutcome](err); ok {
		fmt.Println("submit or abort again by its id:", unknown.ID, unknown.Since)
	} else if err != nil {
		fmt.Println("nothing happened:", err)
	} else {
		fmt.Println(answer.GetOutcome(), answer.GetReason().GetMessage())
	}
}
