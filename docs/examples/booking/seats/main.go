// Command seats is a participant over PostgreSQL: take is the service's own
// work, everything else is Concordat's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/postgres"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// booking is what this service is asked for: a payload has whatever form its
// service likes.
type booking struct {
	Booking, Flight, Passenger string
	Seat                       string // empty: any
}

// take is the work of one branch, in a transaction as any other: it takes a seat.
// What it does becomes visible if all services agree, and never otherwise; it
// neither commits nor rolls back. The result comes back with the answer.
func take(ctx context.Context, tx pgx.Tx, w participant.Work) (result []byte, err error) {
	var b booking
	if err := json.Unmarshal(w.Payload, &b); err != nil || b.Booking == "" || b.Flight == "" || b.Passenger == "" {
		return nil, postgres.Abort(pb.Reason_INVALID, "not a booking of a seat: %s", w.Payload)
	}
	// A seat that another booking has taken and may still give back is skipped, not waited for.
	var seat string
	err = tx.QueryRow(ctx, `SELECT name FROM seat WHERE flight = $1 AND passenger IS NULL AND $2 IN ('', name)
		ORDER BY name LIMIT 1 FOR UPDATE SKIP LOCKED`, b.Flight, b.Seat).Scan(&seat)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, refusal(ctx, tx, b)
	}
	if err != nil {
		return nil, err // the vote is ABORTED, with the database's own words
	}
	_, err = tx.Exec(ctx, "UPDATE seat SET passenger = $3, booking = $4 WHERE flight = $1 AND name = $2",
		b.Flight, seat, b.Passenger, b.Booking)
	return []byte("seat " + seat + " on " + b.Flight), err
}

// refusal says why there is no seat. APPLICATION is a reason of the service's
// own, and final. CONFLICT says that another booking is in the way: the client
// library tries again, until the caller's deadline.
func refusal(ctx context.Context, tx pgx.Tx, b booking) error {
	var seats, free int
	err := tx.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE passenger IS NULL) FROM seat WHERE flight = $1 AND $2 IN ('', name)",
		b.Flight, b.Seat).Scan(&seats, &free)
	switch {
	case err != nil:
		return err
	case free > 0:
		return postgres.Abort(pb.Reason_CONFLICT, "the last free seats of %s are being booked just now", b.Flight)
	case seats == 0:
		return postgres.Abort(pb.Reason_APPLICATION, "there is no such flight or seat: %s %s", b.Flight, b.Seat)
	case b.Seat != "":
		return postgres.Abort(pb.Reason_APPLICATION, "seat %s on %s is taken", b.Seat, b.Flight)
	}
	return postgres.Abort(pb.Reason_APPLICATION, "flight %s is full", b.Flight)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:7301", "where the nodes reach this service")
	nodes := flag.String("nodes", "127.0.0.1:7001", "some or all nodes of the cluster, host:port,…")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, strings.Split(*nodes, ",")); err != nil {
		log.Fatal("seats: ", err)
	}
}

// serve is a whole participant. From the environment comes the address of the
// database, which holds a password.
func serve(ctx context.Context, listen string, nodes []string) error {
	store, err := postgres.Open(ctx, postgres.Options{Name: "seats", DSN: os.Getenv("SEATS_DSN"), Work: take})
	if err != nil {
		return err
	}
	defer store.Close()
	return participant.Serve(ctx, participant.Service{
		Config: participant.Config{Name: "seats", ResourceManager: store, Logger: hclog.Default()},
		Nodes:  nodes, Listen: listen, Register: true,
	})
}
