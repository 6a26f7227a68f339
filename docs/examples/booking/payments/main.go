// Command payments is a participant over MariaDB or MySQL: pay is the service's
// own work, everything else is Concordat's.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/mysql"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// airline is the account that all payments go to.
const airline = "airline"

// payment is what this service is asked for.
type payment struct {
	Booking, Payer string
	Amount         int64
}

// pay is the work of one branch, on a connection as any other: it takes the
// amount from the payer and gives it to the airline. Everything on conn belongs to the
// branch; an error, also one of a statement that is passed over, ends it.
func pay(ctx context.Context, conn *sql.Conn, w participant.Work) (result []byte, err error) {
	var p payment
	if err := json.Unmarshal(w.Payload, &p); err != nil || p.Booking == "" || p.Payer == "" || p.Amount <= 0 {
		return nil, mysql.Abort(pb.Reason_INVALID, fmt.Sprintf("not a payment: %s", w.Payload))
	}
	var balance int64
	err = conn.QueryRowContext(ctx, "SELECT balance FROM account WHERE name = ? FOR UPDATE", p.Payer).Scan(&balance)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, mysql.Abort(pb.Reason_APPLICATION, p.Payer+" has no account")
	case err != nil:
		return nil, err // the vote is ABORTED, with the database's own words
	case balance < p.Amount:
		// A reason of the service's own: it comes back to the client as it stands.
		return nil, mysql.Abort(pb.Reason_APPLICATION, fmt.Sprintf("%s has %d, and %d are due", p.Payer, balance, p.Amount))
	}
	for _, step := range []struct {
		statement string
		args      []any
	}{
		{"INSERT INTO payment VALUES (?, ?, ?)", []any{p.Booking, p.Payer, p.Amount}},
		{"UPDATE account SET balance = balance - ? WHERE name = ?", []any{p.Amount, p.Payer}},
		// Last, since every payment needs this row: it stays locked until the transaction is decided.
		{"UPDATE account SET balance = balance + ? WHERE name = ?", []any{p.Amount, airline}},
	} {
		if _, err := conn.ExecContext(ctx, step.statement, step.args...); err != nil {
			return nil, err
		}
	}
	return fmt.Appendf(nil, "%s has %d left", p.Payer, balance-p.Amount), nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:7302", "where the nodes reach this service")
	nodes := flag.String("nodes", "127.0.0.1:7001", "some or all nodes of the cluster, host:port,…")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, strings.Split(*nodes, ",")); err != nil {
		log.Fatal("payments: ", err)
	}
}

// serve is a whole participant. From the environment comes the address of the
// database, which holds a password.
func serve(ctx context.Context, listen string, nodes []string) (err error) {
	store, err := mysql.Open(ctx, mysql.Options{Name: "payments", DSN: os.Getenv("PAYMENTS_DSN"), Work: pay})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return participant.Serve(ctx, participant.Service{
		Config: participant.Config{Name: "payments", ResourceManager: store, Logger: hclog.Default()},
		Nodes:  nodes, Listen: listen, Register: true,
	})
}
