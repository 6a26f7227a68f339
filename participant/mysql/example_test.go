package mysql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/mysql"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// charge is the work of one branch, in ordinary SQL: everything done on conn
// belongs to the branch, and an error ends it. It neither begins nor commits.
func charge(ctx context.Context, conn *sql.Conn, w participant.Work) ([]byte, error) {
	var c struct {
		Account string
		Amount  int
	}
	if err := json.Unmarshal(w.Payload, &c); err != nil {
		return nil, mysql.Abort(pb.Reason_INVALID, err.Error())
	}
	var balance int
	err := conn.QueryRowContext(ctx, "SELECT balance FROM accounts WHERE name = ? FOR UPDATE", c.Account).Scan(&balance)
	if err != nil {
		return nil, err
	}
	if balance < c.Amount {
		return nil, mysql.Abort(pb.Reason_CONDITION, fmt.Sprintf("%s has only %d", c.Account, balance))
	}
	if _, err := conn.ExecContext(ctx, "UPDATE accounts SET balance = balance - ? WHERE name = ?", c.Amount, c.Account); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%d left", balance-c.Amount), nil
}

// servePayments is a whole participant: its data in a database, its work in charge.
func servePayments(ctx context.Context, listen, dsn string, nodes []string) error {
	payments, err := mysql.Open(ctx, mysql.Options{Name: "payments", DSN: dsn, Work: charge})
	if err != nil {
		return err
	}
	defer payments.Close()
	return participant.Serve(ctx, participant.Service{
		Config: participant.Config{Name: "payments", ResourceManager: payments},
		Nodes:  nodes, Listen: listen, Register: true,
	})
}

// A service of one's own over MariaDB: servePayments and charge are all of it.
// The rest plays the coordinator, which a service never does.
func Example() {
	dsn, err := mysql.NewDSN() // a private server of the tests
	if err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	for _, s := range []string{
		"CREATE TABLE accounts (name VARCHAR(20) PRIMARY KEY, balance INT NOT NULL) ENGINE=InnoDB",
		"INSERT INTO accounts VALUES ('ann', 200)",
	} {
		if _, err := db.Exec(s); err != nil {
			log.Fatal(err)
		}
	}
	address, err := mysql.FreeAddress()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- servePayments(ctx, address, dsn, []string{"127.0.0.1:1"}) }()

	conn, err := rpc.Dial(address)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	payments := pb.NewParticipantClient(conn)
	fence := &pb.Fence{ClusterId: "example", Generation: 1, Term: 1, Participant: "payments"}
	for i := range 2 {
		payload := []byte(`{"account": "ann", "amount": 120}`)
		digest := fsm.DigestOf(payload)
		branch := &pb.BranchRef{
			Id: fmt.Sprintf("booking-%d", i), Participant: "payments", Digest: digest[:],
			Attempt: &pb.Attempt{Generation: 1, Term: 1, Sequence: uint64(i) + 1},
		}
		vote, err := payments.Prepare(ctx, &pb.PrepareRequest{Fence: fence, Branch: branch, Payload: payload, BudgetMs: 5000}, grpc.WaitForReady(true))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v %s%s\n", vote.GetVote(), vote.GetResult(), vote.GetReason().GetMessage())
		if vote.GetVote() == pb.Vote_VOTE_PREPARED {
			_, err = payments.Commit(ctx, &pb.CommitRequest{Fence: fence, Branch: branch})
		} else {
			_, err = payments.Rollback(ctx, &pb.RollbackRequest{Fence: fence, Branch: branch})
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	var balance int
	if err := db.QueryRow("SELECT balance FROM accounts WHERE name = 'ann'").Scan(&balance); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ann has", balance)
	stop()
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	// Output:
	// VOTE_PREPARED 80 left
	// VOTE_ABORTED ann has only 80
	// ann has 80
}
