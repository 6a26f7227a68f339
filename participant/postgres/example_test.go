package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/postgres"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// book is the work of one branch: take the first free seat of a flight. It uses
// the transaction as any other; Concordat prepares and ends it.
func book(ctx context.Context, tx pgx.Tx, w participant.Work) ([]byte, error) {
	var b struct{ Flight, Passenger string }
	if err := json.Unmarshal(w.Payload, &b); err != nil {
		return nil, postgres.Abort(pb.Reason_INVALID, "not a booking: %v", err)
	}
	var seat string
	err := tx.QueryRow(ctx, `UPDATE seat SET passenger = $2 WHERE (flight, name) =
		(SELECT flight, name FROM seat WHERE flight = $1 AND passenger IS NULL ORDER BY name LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING name`, b.Flight, b.Passenger).Scan(&seat)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, postgres.Abort(pb.Reason_CONDITION, "%s is full", b.Flight)
	}
	return []byte(seat), err
}

// serveSeats is a whole service: its data in PostgreSQL, its work in book.
func serveSeats(ctx context.Context, listen, dsn string, nodes []string) error {
	store, err := postgres.Open(ctx, postgres.Options{Name: "seats", DSN: dsn, Work: book})
	if err != nil {
		return err
	}
	defer store.Close()
	return participant.Serve(ctx, participant.Service{
		Config: participant.Config{Name: "seats", ResourceManager: store},
		Nodes:  nodes, Listen: listen, Register: true,
	})
}

// A service of one's own over PostgreSQL: serveSeats and book are all of it. The
// rest plays the coordinator, which a service never does.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	dsn, err := seatsDatabase(ctx)
	if err != nil {
		log.Fatal(err)
	}
	address, err := postgres.FreeAddress()
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- serveSeats(ctx, address, dsn, []string{"127.0.0.1:1"}) }()

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
	// ann: VOTE_PREPARED 1A
	// bob: VOTE_PREPARED 1B
	// cy: VOTE_ABORTED LH1 is full
}

// seatsDatabase makes the example's data.
func seatsDatabase(ctx context.Context) (dsn string, err error) {
	name, err := postgres.Server().NewDatabase(ctx)
	if err != nil {
		return "", err
	}
	dsn = postgres.Server().DSN(name, name)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, `CREATE TABLE seat (flight text, name text, passenger text, PRIMARY KEY (flight, name));
		INSERT INTO seat VALUES ('LH1', '1A'), ('LH1', '1B')`)
	return dsn, err
}
