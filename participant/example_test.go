package participant_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// book is the work of one branch: take a free seat and note who sits there.
func book(tx *kv.Tx, payload []byte) ([]byte, error) {
	var b struct{ Flight, Passenger string }
	if err := json.Unmarshal(payload, &b); err != nil {
		return nil, kv.Abort("not a booking: %v", err)
	}
	taken, err := tx.Add("taken/"+b.Flight, 1, nil, nil)
	if err != nil {
		return nil, err
	}
	if taken > 2 {
		return nil, kv.Abort("%s is full", b.Flight)
	}
	return fmt.Appendf(nil, "seat %d", taken), nil
}

// serveSeats is a whole participant: its data in one file, its work in book.
func serveSeats(ctx context.Context, listen, file string, nodes []string) error {
	store, err := kv.Open(file, kv.Options{Kind: "seats", Handler: book})
	if err != nil {
		return err
	}
	defer store.Close()
	return participant.Serve(ctx, participant.Service{
		Config: participant.Config{Name: "seats", ResourceManager: store},
		Nodes:  nodes, Listen: listen, Register: true,
	})
}

// A participant of one's own: serveSeats and book are all of it. The rest
// plays the coordinator, which a service never does.
func Example() {
	dir, err := os.MkdirTemp("", "seats")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	address, err := freeAddress()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serveSeats(ctx, address, filepath.Join(dir, "seats.db"), []string{"127.0.0.1:1"}) }()

	conn, err := rpc.Dial(address)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	seats := pb.NewParticipantClient(conn)
	fence := &pb.Fence{ClusterId: "example", Generation: 1, Term: 1, Participant: "seats"}
	for i, passenger := range []string{"ann", "bob", "cy"} {
		payload := fmt.Appendf(nil, `{"flight": "LH1", "passenger": %q}`, passenger)
		digest := fsm.DigestOf(payload)
		branch := &pb.BranchRef{
			Id: "booking-" + passenger, Participant: "seats", Digest: digest[:],
			Attempt: &pb.Attempt{Generation: 1, Term: 1, Sequence: uint64(i) + 1},
		}
		vote, err := seats.Prepare(ctx, &pb.PrepareRequest{Fence: fence, Branch: branch, Payload: payload, BudgetMs: 5000}, grpc.WaitForReady(true))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %v %s%s\n", passenger, vote.GetVote(), vote.GetResult(), vote.GetReason().GetMessage())
		if vote.GetVote() == pb.Vote_VOTE_PREPARED {
			_, err = seats.Commit(ctx, &pb.CommitRequest{Fence: fence, Branch: branch})
		} else {
			_, err = seats.Rollback(ctx, &pb.RollbackRequest{Fence: fence, Branch: branch})
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	stop()
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	// Output:
	// ann: VOTE_PREPARED seat 1
	// bob: VOTE_PREPARED seat 2
	// cy: VOTE_ABORTED LH1 is full
}
