package inprocess

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// wirePatience is how long one call of chance may take; some wait for what never comes.
const wirePatience = 200 * time.Millisecond

const wireSeeds = 64

// pure are refusals that come before anything could be logged.
var pure = []rpc.ErrorReason{
	rpc.ReasonInvalidArgument, rpc.ReasonIDReused, rpc.ReasonNotFound, rpc.ReasonExpired, rpc.ReasonParticipantUnknown,
	rpc.ReasonWrongCluster, rpc.ReasonNotDecided,
}

// FuzzWire sends messages made of chance to every method of a real node and a
// real participant. Nothing panics, every error has its code and its typed
// reason, and none is a defect; what is refused for what it says leaves nothing
// in the log. The first byte says whether the messages are sent as they were
// made or with bytes changed, which gRPC itself may then refuse.
func FuzzWire(f *testing.F) {
	w := newWireWorld(f)
	for seed := range uint64(wireSeeds) {
		f.Add(chance(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w.t = t
		w.runs++
		defer func() { w.t = f }()
		m := &wireMaker{data: data, wireWords: w.words}
		spoil := m.byte()%4 == 3
		var refused []wireCall
		for range 24 {
			if len(m.data) == 0 {
				break
			}
			c := m.call(w.methods)
			if spoil {
				w.spoiled(t, c, m)
				continue
			}
			if err := w.send(t, c); err != nil && slices.Contains(pure, err.Reason) {
				refused = append(refused, c)
			}
		}
		if n := w.logs.count("error", "panic", nil); n > 0 {
			t.Fatalf("%d panics", n)
		}
		w.leaveNothing(t, refused)
	})
	f.Logf("what came of the calls: %v", w.came)
	if w.runs < wireSeeds {
		return // some of the seeds alone
	}
	for _, way := range []string{"Submit ", "Submit ID_REUSED", "Resolve ", "Prepare ", "CommitOnePhase ", "Commit ", "Rollback ", "Watch ", "Outcomes WRONG_CLUSTER"} {
		if w.came[way] == 0 {
			f.Errorf("the messages are too poor: no %q", way)
		}
	}
}

// chance is bytes that make about two dozen calls.
func chance(seed uint64) []byte {
	b := make([]byte, 4096)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(b) // it never fails
	b[0] = byte(seed)
	return b
}

// wireWorld is a node with a participant, and another participant that is not
// registered, which hears from the tests alone.
type wireWorld struct {
	*world
	methods    []wireMethod
	words      wireWords
	node, solo *grpc.ClientConn
	// came counts what came of the calls, by method and reason.
	came map[string]int
	runs int
}

func newWireWorld(f *testing.F) *wireWorld {
	w := &wireWorld{world: newWorld(f, options{participants: []string{"p"}}), came: map[string]int{}}
	solo := w.newParty("solo", nil)
	solo.start()
	identity, err := solo.data().Identity(w.ctx())
	if err != nil {
		f.Fatal(err)
	}
	w.node, w.solo = w.dial(w.members[0].address), w.dial(solo.address)
	at, err := pb.NewClusterClient(w.node).Status(w.ctx(), &pb.StatusRequest{})
	if err != nil {
		f.Fatal(err)
	}
	w.words = wireWords{cluster: at.GetClusterId(), incarnation: identity.Incarnation, endpoint: w.parties["p"].endpoint()}
	for _, file := range []protoreflect.FileDescriptor{pb.File_concordat_v1_coordinator_proto, pb.File_concordat_v1_participant_proto, pb.File_concordat_v1_kv_proto} {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			conn := w.node
			if s.Name() == "Participant" || s.Name() == "KV" {
				conn = w.solo
			}
			for j := range s.Methods().Len() {
				w.methods = append(w.methods, wireMethod{s.Methods().Get(j), conn})
			}
		}
	}
	return w
}

func (w *wireWorld) dial(address string) *grpc.ClientConn {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// send makes one call and judges its error.
func (w *wireWorld) send(t *testing.T, c wireCall) *rpc.Error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wirePatience)
	defer cancel()
	err := c.invoke(ctx)
	w.came[string(c.method.Name())+" "+string(rpc.ReasonOf(err))]++
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && status.Code(err) == codes.DeadlineExceeded {
		return nil // the caller's own end
	}
	s, e := status.Convert(err), rpc.FromError(err)
	typed := slices.ContainsFunc(s.Details(), func(d any) bool {
		info, ok := d.(*errdetails.ErrorInfo)
		return ok && info.GetDomain() == rpc.ErrorDomain && info.GetReason() == string(e.Reason)
	})
	switch {
	case !typed || s.Code() != e.Reason.Code() || e.Message == "":
		t.Errorf("%s: an error without its reason: %v, read as %s", c, err, e.Reason)
	case e.Reason == rpc.ReasonInternal:
		t.Errorf("%s: a defect: %v", c, err)
	case e.Reason == rpc.ReasonInvalidArgument && e.Field == "":
		t.Errorf("%s: no field is named: %v", c, err)
	}
	return e
}

// spoiled sends the bytes of a message with some of them changed. gRPC refuses
// what is no message before we see it.
func (w *wireWorld) spoiled(t *testing.T, c wireCall, m *wireMaker) {
	t.Helper()
	raw, err := proto.Marshal(c.request)
	if err != nil {
		t.Fatal(err)
	}
	for range 1 + m.byte()%4 {
		if len(raw) > 0 {
			raw[int(m.byte())*len(raw)/256] = m.byte()
		}
	}
	c.raw = raw
	ctx, cancel := context.WithTimeout(context.Background(), wirePatience)
	defer cancel()
	err = c.invoke(ctx)
	if e := rpc.FromError(err); e != nil && e.Reason == rpc.ReasonInternal && !strings.Contains(err.Error(), "unmarshal") {
		t.Errorf("%s as %s: %v", c, hex.EncodeToString(raw), err)
	}
}

// leaveNothing repeats refused calls when nothing else goes on: the state of
// the node does not move.
func (w *wireWorld) leaveNothing(t *testing.T, refused []wireCall) {
	t.Helper()
	w.eventually("every transaction is finished", func() (done bool) {
		w.members[0].node.Replica().View(func(m *fsm.Machine) { done = m.LiveCount() == 0 })
		return done
	})
	before := w.state(t)
	for _, c := range refused {
		e := w.send(t, c)
		if e == nil || !slices.Contains(pure, e.Reason) {
			before = w.state(t) // what went before has made it right, or was forgotten
			continue
		}
		if after := w.state(t); after.GetIndex() != before.GetIndex() {
			t.Errorf("%s was refused (%v) and moved the log from %d to %d", c, e, before.GetIndex(), after.GetIndex())
			before = after
		}
	}
}

func (w *wireWorld) state(t *testing.T) *pb.StateHashResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := pb.NewClusterClient(w.node).StateHash(ctx, &pb.StateHashRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
