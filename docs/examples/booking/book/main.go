// Command book books a flight: one transaction over the services seats, payments
// and profiles. Exit status 0: booked; 3: not booked, and nothing has happened; 4:
// the cluster could not be asked, or did not answer in time: the same command again,
// with the same -id, tells, and books at most once; 1: it makes no sense to ask that.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// branch is one service's part, in the form that the service reads.
func branch(participant string, payload map[string]any) *pb.Branch {
	b, err := json.Marshal(payload)
	if err != nil {
		panic(err) // strings and numbers
	}
	return &pb.Branch{Participant: participant, Payload: b}
}

// book asks all three services; either each of them does its part or none does.
// The answer comes when each has applied what was decided, so that whoever looks
// then finds it; one that is down is not waited for longer than ctx lasts.
func book(ctx context.Context, client *rpc.Client, id, flight, seat, passenger string, price int64) (*pb.TransactionResponse, error) {
	return client.Submit(ctx, &pb.SubmitRequest{Id: id, Wait: pb.Wait_COMPLETED, Branches: []*pb.Branch{
		branch("seats", map[string]any{"booking": id, "flight": flight, "seat": seat, "passenger": passenger}),
		branch("payments", map[string]any{"booking": id, "payer": passenger, "amount": price}),
		branch("profiles", map[string]any{"booking": id, "flight": flight, "passenger": passenger}),
	}})
}

func main() {
	nodes := flag.String("nodes", "127.0.0.1:7001", "some or all nodes of the cluster, host:port,…")
	id := flag.String("id", "", "the booking's id: a second booking with it is the first one (default: a new one)")
	flight := flag.String("flight", "", "the flight")
	seat := flag.String("seat", "", "the seat (default: any)")
	passenger := flag.String("passenger", "", "who flies, and pays")
	price := flag.Int64("price", 120, "what it costs")
	patience := flag.Duration("patience", 10*time.Second, "how long to wait for the answer")
	flag.Parse()
	client, err := rpc.NewClient(strings.Split(*nodes, ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, "book:", err)
		os.Exit(2)
	}
	if *id == "" {
		*id, err = rpc.NewID()
	}
	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	var answer *pb.TransactionResponse
	if err == nil {
		answer, err = book(ctx, client, *id, *flight, *seat, *passenger, *price)
	}
	os.Exit(report(*id, answer, err))
}

// report prints the outcome and what each service said, and returns the exit status.
func report(id string, answer *pb.TransactionResponse, err error) int {
	if unknown, ok := errors.AsType[*rpc.UnknownOutcome](err); ok {
		fmt.Fprintf(os.Stderr, "booking %s: booked or not, nobody has told yet: ask again with -id %s (%v)\n", id, id, unknown.Err)
		return 4
	}
	if err != nil { // a refusal: this call has begun nothing
		fmt.Fprintf(os.Stderr, "booking %s: %v\n", id, err)
		if rpc.FromError(err).Retryable() {
			return 4
		}
		return 1
	}
	status, outcome := 0, "booked"
	if answer.GetOutcome() != pb.Outcome_COMMIT {
		status, outcome = 3, fmt.Sprintf("not booked: %s (%v)", answer.GetReason().GetMessage(), answer.GetReason().GetCode())
	}
	fmt.Printf("booking %s: %s\n", id, outcome)
	for _, b := range answer.GetBranches() {
		said := string(b.GetResult())
		switch {
		case b.GetReason() != nil:
			said = "refused: " + b.GetReason().GetMessage()
		case status != 0:
			said = "did nothing"
		case b.GetResultUnavailable():
			said = "did its part; what it said about it is not kept"
		}
		fmt.Printf("  %-8s  %s\n", b.GetParticipant(), said)
	}
	return status
}
