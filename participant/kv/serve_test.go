package kv

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// dial serves the store on a loopback socket and returns a client.
func dialStore(t *testing.T, s *Store) pb.KVClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, s)
	go func() { _ = server.Serve(l) }() // ends with Stop
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
	})
	return pb.NewKVClient(conn)
}

func TestReadWaitsForThePreparedWriter(t *testing.T) {
	s := testStore(t, newPath(t))
	client := dialStore(t, s)
	runTx(t, s, work("seed", 1, ops(put("a", `1`)+`,`+put("b", `"x"`))))
	w := work("writer", 2, ops(add("a", 1)+`,`+put("b", `["y"]`)))
	prepared(t, s, w)

	// Not over the wire: on a busy machine the client's own deadline may win.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := s.Read(ctx, &pb.ReadRequest{Keys: []string{"free", "b"}})
	if e := rpc.FromError(err); status.Code(err) != codes.Unavailable || e.Reason != rpc.ReasonLocked || e.Txn != "writer" || !strings.Contains(e.Message, `"b"`) {
		t.Errorf("got %v", err)
	}
	if n := s.readsWaiting("b"); n != 0 {
		t.Errorf("%d reads are left waiting", n)
	}
	stale, err := client.Read(t.Context(), &pb.ReadRequest{Keys: []string{"b", "nothing", "a"}, Stale: true})
	if err != nil || len(stale.Items) != 3 || string(stale.Items[0].ValueJson) != `"x"` || stale.Items[1].Exists || string(stale.Items[2].ValueJson) != "1" {
		t.Errorf("stale read: %v, %v", stale, err)
	}

	got := make(chan *pb.ReadResponse, 1)
	go func() {
		r, err := client.Read(soon(t), &pb.ReadRequest{Keys: []string{"a", "b"}})
		if err != nil {
			t.Errorf("read: %v", err)
		}
		got <- r
	}()
	eventually(t, "the read waits", func() bool { return s.readsWaiting("a") == 1 })
	commit(t, s, w)
	if r := <-got; string(r.GetItems()[0].GetValueJson()) != "2" || string(r.GetItems()[1].GetValueJson()) != `["y"]` {
		t.Errorf("after the commit: %v", r)
	}
}

func TestReadIsCancelled(t *testing.T) {
	s := testStore(t, newPath(t))
	prepared(t, s, work("writer", 2, ops(add("a", 1))))
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan error, 1)
	go func() { _, err := s.Read(ctx, &pb.ReadRequest{Keys: []string{"a"}}); out <- err }()
	eventually(t, "the read waits", func() bool { return s.readsWaiting("a") == 1 })
	cancel()
	if err := <-out; rpc.ReasonOf(err) != rpc.ReasonCancelled {
		t.Errorf("got %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	s := testStore(t, newPath(t))
	for name, keys := range map[string][]string{
		"no keys": {}, "too many": make([]string, maxReadKeys+1), "empty key": {"a", ""},
		"long key": {strings.Repeat("k", 1025)}, "bad UTF-8": {"\xff"},
	} {
		if _, err := s.Read(t.Context(), &pb.ReadRequest{Keys: keys}); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "keys") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]*pb.ScanRequest{
		"limit": {Limit: 10001}, "prefix": {Prefix: strings.Repeat("p", 1025)}, "after": {After: strings.Repeat("p", 1025)},
	} {
		if _, err := s.Scan(t.Context(), r); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestScanPages(t *testing.T) {
	s := testStore(t, newPath(t))
	var list []string
	for i := range 25 {
		list = append(list, put(fmt.Sprintf("p/%02d", i), fmt.Sprint(i)))
	}
	list = append(list, put("a", `0`), put("q", `0`), put("p", `0`))
	runTx(t, s, work("seed", 1, ops(join(list))))
	prepared(t, s, work("held", 2, ops(add("p/00", 100)+`,`+get("a"))))
	var keys []string
	after := ""
	for page := 0; ; page++ {
		r, err := s.Scan(t.Context(), &pb.ScanRequest{Prefix: "p/", After: after, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		if r.Locks != 2 {
			t.Errorf("%d locks", r.Locks)
		}
		for _, i := range r.Items {
			keys = append(keys, i.Key)
			after = i.Key
		}
		if !r.More {
			break
		}
	}
	if len(keys) != 25 || keys[0] != "p/00" || keys[24] != "p/24" {
		t.Errorf("keys %v", keys)
	}
	if all, err := s.Scan(t.Context(), &pb.ScanRequest{}); err != nil || len(all.Items) != 28 || all.More {
		t.Errorf("all: %v, %v", all, err)
	}
}

// Found by test/sim: where an endpoint led to another participant, reads were
// answered with that one's data.
func TestReadForAnotherParticipantIsRefused(t *testing.T) {
	s := openWith(t, newPath(t), Options{Name: "seats"})
	for name, want := range map[string]rpc.ErrorReason{"payments": rpc.ReasonWrongParticipant, "seats": "", "": ""} {
		_, err := s.Read(t.Context(), &pb.ReadRequest{Keys: []string{"a"}, Participant: name})
		_, scanErr := s.Scan(t.Context(), &pb.ScanRequest{Participant: name})
		for call, err := range map[string]error{"read": err, "scan": scanErr} {
			if got := rpc.ReasonOf(err); got != want {
				t.Errorf("%s for %q: %v, want %q", call, name, err, want)
			}
		}
	}
}
