// Command profiles is a participant that keeps its data itself, in the embedded
// key-value store: note is the service's own work, everything else is Concordat's.
package main

import (
	"context"
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
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// trip is what this service is asked for.
type trip struct{ Booking, Flight, Passenger string }

// note is the work of one branch: it adds the booking to the passenger's profile.
// A key that tx has touched stays locked until the transaction is decided, over
// restarts too, so nobody reads what may still be undone.
func note(tx *kv.Tx, payload []byte) (result []byte, err error) {
	var t trip
	if err := json.Unmarshal(payload, &t); err != nil || t.Booking == "" || t.Flight == "" || t.Passenger == "" {
		return nil, &kv.AbortError{Code: pb.Reason_INVALID, Message: fmt.Sprintf("not a trip: %s", payload)}
	}
	if err := tx.Append(t.Passenger+"/bookings", kvop.Text(t.Booking)); err != nil {
		return nil, err
	}
	trips, err := tx.Add(t.Passenger+"/trips", 1, nil, nil)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "trip %d of %s", trips, t.Passenger), tx.Put(t.Passenger+"/last", kvop.Text(t.Flight))
}

func main() {
	listen := flag.String("listen", "127.0.0.1:7303", "where the nodes reach this service")
	nodes := flag.String("nodes", "127.0.0.1:7001", "some or all nodes of the cluster, host:port,…")
	data := flag.String("data", "profiles.db", "the file with the data")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, strings.Split(*nodes, ","), *data); err != nil {
		log.Fatal("profiles: ", err)
	}
}

// serve is a whole participant.
func serve(ctx context.Context, listen string, nodes []string, data string) (err error) {
	store, err := kv.Open(data, kv.Options{Name: "profiles", Handler: note})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return participant.Serve(ctx, participant.Service{
		Config: participant.Config{Name: "profiles", ResourceManager: store, Logger: hclog.Default()},
		Nodes:  nodes, Listen: listen, Register: true,
	})
}
