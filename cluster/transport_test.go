package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// endpoint is a node as far as its transport goes.
type endpoint struct {
	id      string
	dir     *dataDir
	layer   *streamLayer
	trans   *transport
	refused chan *refusedError
}

// newEndpoints makes nodes n1, n2, … that know each other's addresses.
func newEndpoints(t *testing.T, n int) []*endpoint {
	t.Helper()
	var ends []*endpoint
	addresses := map[string]string{}
	for i := range n {
		e := &endpoint{id: fmt.Sprintf("n%d", i+1), refused: make(chan *refusedError, 16)}
		var err error
		if e.dir, err = openDataDir(t.TempDir(), e.id, Bolt); err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses[ln.Addr().String()] = e.id
		d := &doorman{
			dir:      e.dir,
			member:   func(id string) bool { return id != "stranger" },
			idAt:     func(address string) string { return addresses[address] },
			refused:  func(r *refusedError) { e.refused <- r },
			admitted: func(string) {},
			lost:     func(string) {},
		}
		e.layer = newStreamLayer(ln, TCP(), d, 2*time.Second, ln.Addr().String(), hclog.NewNullLogger())
		e.trans = newTransport(e.layer, 2*time.Second, hclog.NewNullLogger())
		t.Cleanup(func() {
			if err := errors.Join(e.trans.Close(), e.dir.close()); err != nil {
				t.Error(err)
			}
		})
		ends = append(ends, e)
	}
	return ends
}

func (e *endpoint) address() string { return e.layer.listener.Addr().String() }

// TestHeartbeatHandlerIsIgnored: a heartbeat goes the way of every other message (raft#695).
func TestHeartbeatHandlerIsIgnored(t *testing.T) {
	ends := newEndpoints(t, 2)
	var fast atomic.Bool
	ends[1].trans.SetHeartbeatHandler(func(rpc raft.RPC) {
		fast.Store(true)
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	var task sync.WaitGroup
	task.Go(func() {
		select {
		case rpc := <-ends[1].trans.Consumer():
			rpc.Respond(&raft.AppendEntriesResponse{Term: 5, Success: true}, nil)
		case <-within(t).Done():
		}
	})
	beat := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte(ends[0].address())}, Term: 5,
	}
	if !isHeartbeat(beat) {
		t.Fatal("the test sends no heartbeat")
	}
	var resp raft.AppendEntriesResponse
	if err := ends[0].trans.AppendEntries("n2", raft.ServerAddress(ends[1].address()), beat, &resp); err != nil {
		t.Fatal(err)
	}
	task.Wait()
	if fast.Load() || !resp.Success {
		t.Errorf("handler called: %v, response %+v", fast.Load(), resp)
	}
}

// TestLateAnswersVerifyNothing: an answer counts from when its question was asked.
func TestLateAnswersVerifyNothing(t *testing.T) {
	ends := newEndpoints(t, 2)
	ask := func(term uint64, during func() *raft.AppendEntriesResponse) {
		t.Helper()
		var task sync.WaitGroup
		task.Go(func() {
			select {
			case rpc := <-ends[1].trans.Consumer():
				rpc.Respond(during(), nil)
			case <-within(t).Done():
			}
		})
		req := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}, Term: term}
		var resp raft.AppendEntriesResponse
		if err := ends[0].trans.AppendEntries("n2", raft.ServerAddress(ends[1].address()), req, &resp); err != nil {
			t.Fatal(err)
		}
		task.Wait()
	}
	var called time.Time
	for _, tc := range []struct {
		name   string
		during func() *raft.AppendEntriesResponse
		want   bool
	}{
		{"asked before the call", func() *raft.AppendEntriesResponse {
			called = time.Now()
			return &raft.AppendEntriesResponse{Term: 5, Success: true}
		}, false},
		{"of a newer term", func() *raft.AppendEntriesResponse { return &raft.AppendEntriesResponse{Term: 6} }, false},
		{"asked after the call", func() *raft.AppendEntriesResponse { return &raft.AppendEntriesResponse{Term: 5, Success: true} }, true},
	} {
		ask(5, tc.during)
		if got := ends[0].trans.followed.since("n2", 5, called); got != tc.want {
			t.Errorf("%s: %v, should be %v", tc.name, got, tc.want)
		}
	}
	if ends[0].trans.followed.since("n2", 4, called) || ends[0].trans.followed.since("n3", 5, called) {
		t.Error("another term or another node counts")
	}
}

// TestReturningFollowerIsReachedAtOnce: entries are sent again without Raft's
// long pauses, for as long as the leader leads.
func TestReturningFollowerIsReachedAtOnce(t *testing.T) {
	ends := newEndpoints(t, 2)
	var down, leads atomic.Bool
	var tries atomic.Int32
	down.Store(true)
	leads.Store(true)
	ends[0].layer.network.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		tries.Add(1)
		if down.Load() {
			return nil, errors.New("the follower is down")
		}
		return TCP().Dial(ctx, address)
	}
	member := func(raft.ServerID, uint64) bool { return leads.Load() }
	ends[0].trans.leads.Store(&member)
	req := &raft.AppendEntriesRequest{Term: 5, PrevLogEntry: 7, RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
	send := func() <-chan error {
		done := make(chan error, 1)
		go func() {
			var resp raft.AppendEntriesResponse
			done <- ends[0].trans.AppendEntries("n2", raft.ServerAddress(ends[1].address()), req, &resp)
		}()
		return done
	}
	done := send()
	eventually(t, "several tries", func() bool { return tries.Load() >= 6 })
	leads.Store(false)
	if err := <-done; err == nil {
		t.Error("an entry was taken by nobody")
	}
	leads.Store(true)
	done = send()
	down.Store(false)
	rpc := <-ends[1].trans.Consumer()
	rpc.Respond(&raft.AppendEntriesResponse{Term: 5, Success: true}, nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
	var resp raft.AppendEntriesResponse
	down.Store(true)
	if err := ends[1].trans.Close(); err != nil {
		t.Error(err)
	}
	beat := &raft.AppendEntriesRequest{Term: 5}
	if err := ends[0].trans.AppendEntries("n2", raft.ServerAddress(ends[1].address()), beat, &resp); err == nil {
		t.Error("a heartbeat that failed must say so at once")
	}
}

func TestNoPipelining(t *testing.T) {
	ends := newEndpoints(t, 2)
	_, err := ends[0].trans.AppendEntriesPipeline("n2", raft.ServerAddress(ends[1].address()))
	if !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("pipelining: %v", err)
	}
}

func TestPreVoteIsThere(t *testing.T) {
	var trans raft.Transport = &transport{}
	if _, ok := trans.(raft.WithPreVote); !ok {
		t.Error("Raft would turn pre-vote off")
	}
	if DefaultConfig().raftConfigFor("n1").PreVoteDisabled {
		t.Error("pre-vote is disabled")
	}
}

func (c Config) raftConfigFor(id string) *raft.Config {
	c.NodeID = id
	return c.raftConfig()
}

// TestIsolatedFollowerKeepsItsTerm: with pre-vote a node that cannot win does not
// raise its term, so its return deposes nobody.
func TestIsolatedFollowerKeepsItsTerm(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	c.allMet()
	alone := c.follower()
	var tries atomic.Int64
	c.onDial = func(from string) {
		if from == alone.id {
			tries.Add(1)
		}
	}
	c.isolate(alone, true)
	eventually(t, "first campaign", func() bool { return tries.Load() > 0 })
	term := alone.replica.Status().Term
	eventually(t, "several campaigns", func() bool { return tries.Load() >= 10 })
	if got := alone.replica.Status().Term; got != term {
		t.Errorf("term %d, was %d", got, term)
	}
	c.isolate(alone, false)
	c.announce("y")
	c.converged()
}

func TestHandshakeRecordsBothSides(t *testing.T) {
	ends := newEndpoints(t, 2)
	if err := ends[0].layer.probe(within(t), ends[1].address()); err != nil {
		t.Fatal(err)
	}
	if got := ends[0].dir.known("n2"); got != ends[1].dir.self().Incarnation {
		t.Errorf("n1 knows n2 by %q", got)
	}
	if got := ends[1].dir.known("n1"); got != ends[0].dir.self().Incarnation {
		t.Errorf("n2 knows n1 by %q", got)
	}
	var onDisk peersRecord
	if _, err := readJSON(ends[1].dir.file(peersFile), &onDisk); err != nil || onDisk.Peers["n1"] == "" {
		t.Errorf("peers.json: %+v, %v", onDisk, err)
	}
}

// TestRefusals: each side learns why, whichever of them finds the fault.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name    string
		spoil   func(t *testing.T, dialer, other *endpoint)
		code    refusalCode
		by      string // the node that refuses
		address func(dialer, other *endpoint) string
	}{
		{name: "the dialer was wiped", code: refusedIncarnation, by: "n2", spoil: func(t *testing.T, _, other *endpoint) { meet(t, other, "n1") }},
		{name: "the other was wiped", code: refusedIncarnation, by: "n1", spoil: func(t *testing.T, dialer, _ *endpoint) { meet(t, dialer, "n2") }},
		{name: "other cluster", code: refusedCluster, by: "n2", spoil: func(t *testing.T, dialer, other *endpoint) {
			setCluster(t, dialer, "one")
			setCluster(t, other, "two")
		}},
		{name: "unknown node", code: refusedUnknown, by: "n2", spoil: func(_ *testing.T, dialer, _ *endpoint) { dialer.dir.identity.ID = "stranger" }},
		{name: "wrong address", code: refusedWrongNode, by: "n1", spoil: func(_ *testing.T, _, other *endpoint) { other.dir.identity.ID = "n3" }},
		{name: "same id", code: refusedWrongNode, by: "n2", spoil: func(_ *testing.T, dialer, _ *endpoint) { dialer.dir.identity.ID = "n2" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ends := newEndpoints(t, 2)
			tc.spoil(t, ends[0], ends[1])
			err := ends[0].layer.probe(within(t), ends[1].address())
			var refused *refusedError
			if !errors.As(err, &refused) || refused.Code != tc.code || refused.ours != (tc.by == "n1") {
				t.Fatalf("error %v", err)
			}
			told := ends[0]
			if tc.by == "n1" {
				told = ends[1]
			}
			select {
			case r := <-told.refused:
				if r.Code != tc.code || r.Message == "" {
					t.Errorf("told %+v", r)
				}
			case <-within(t).Done():
				t.Fatal("the refused node was not told why")
			}
		})
	}
}

func meet(t *testing.T, e *endpoint, id string) {
	t.Helper()
	if other, err := e.dir.meet(id, "an earlier incarnation"); err != nil || other != "" {
		t.Fatal(other, err)
	}
}

func setCluster(t *testing.T, e *endpoint, id string) {
	t.Helper()
	if err := e.dir.setClusterID(id); err != nil {
		t.Fatal(err)
	}
}

func TestOtherVersionOfTheHandshake(t *testing.T) {
	ends := newEndpoints(t, 1)
	conn, err := TCP().Dial(within(t), ends[0].address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var frame bytes.Buffer
	if err := writeHello(&frame, hello{Node: "n2", Incarnation: "x"}); err != nil {
		t.Fatal(err)
	}
	frame.Bytes()[len(helloMagic)] = 99
	if _, err := conn.Write(frame.Bytes()); err != nil {
		t.Fatal(err)
	}
	h, err := readHello(conn)
	if err != nil || h.Refusal == nil || h.Refusal.Code != refusedVersion {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestSilentConnections do not keep others out, and end when the layer closes.
func TestSilentConnections(t *testing.T) {
	ends := newEndpoints(t, 2)
	for range maxHandshakes / 2 {
		conn, err := TCP().Dial(within(t), ends[1].address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if err := ends[0].layer.probe(within(t), ends[1].address()); err != nil {
		t.Fatal(err)
	}
	if err := ends[1].trans.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := ends[0].layer.probe(ctx, ends[1].address()); err == nil {
		t.Error("a closed layer still answers")
	}
}

func FuzzReadHello(f *testing.F) {
	var frame bytes.Buffer
	if err := writeHello(&frame, hello{Node: "n1", Incarnation: "i", ClusterID: "c", Refusal: &refusal{refusedBroken, "m"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(frame.Bytes())
	f.Add([]byte("CCDR\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeHello(&again, h); err != nil {
			return // escaped, it may be longer than it was
		}
		if back, err := readHello(&again); err != nil || back.Node != h.Node || back.Incarnation != h.Incarnation {
			t.Errorf("%+v came back as %+v, %v", h, back, err)
		}
	})
}

// TestHelloIsReadByTheByte: nothing behind the frame is swallowed, since it is Raft's.
func TestHelloIsReadByTheByte(t *testing.T) {
	var stream bytes.Buffer
	if err := writeHello(&stream, hello{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	stream.WriteString("raft")
	if _, err := readHello(&stream); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(&stream); err != nil || string(rest) != "raft" {
		t.Errorf("left %q, %v", rest, err)
	}
}
