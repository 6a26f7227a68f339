package inprocess

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// badCall is one call that must be refused whole, with the field and the limit
// in the error.
type badCall struct {
	name   string
	call   func(context.Context, pb.CoordinatorClient, pb.ClusterClient) error
	reason rpc.ErrorReason
	field  string
	parts  []string // of the error's text
}

func badSubmit(name, field, limit string, change func(*pb.SubmitRequest)) badCall {
	return badSubmitFor(name, rpc.ReasonInvalidArgument, field, limit, change)
}

func badSubmitFor(name string, reason rpc.ErrorReason, field, limit string, change func(*pb.SubmitRequest)) badCall {
	return badCall{name: name, reason: reason, field: field, parts: []string{limit},
		call: func(ctx context.Context, c pb.CoordinatorClient, _ pb.ClusterClient) error {
			req := request("bad", pb.Wait_DECIDED, branch("p", add("x", 1)))
			change(req)
			r, err := c.Submit(ctx, req)
			if err == nil {
				return fmt.Errorf("it was answered: %v", r)
			}
			return err
		}}
}

func badSubmits() []badCall {
	payload := func(p string) func(*pb.SubmitRequest) {
		return func(r *pb.SubmitRequest) { r.Branches[0].Payload = []byte(p) }
	}
	id := func(id string) func(*pb.SubmitRequest) { return func(r *pb.SubmitRequest) { r.Id = id } }
	timeout := func(d time.Duration) func(*pb.SubmitRequest) {
		return func(r *pb.SubmitRequest) { r.Timeout = durationpb.New(d) }
	}
	const ids, times = "1 to 48 bytes of [A-Za-z0-9._-]", "50ms to 1m0s"
	large := `{"ops":[{"op":"put","key":"x","value":"` + strings.Repeat("v", 64<<10) + `"}]}`
	list := []badCall{
		badSubmit("no branches", "branches", "1 to 64", func(r *pb.SubmitRequest) { r.Branches = nil }),
		badSubmit("65 branches", "branches", "1 to 64", func(r *pb.SubmitRequest) {
			r.Branches = nil
			for i := range 65 {
				r.Branches = append(r.Branches, branch(fmt.Sprintf("p%d", i), add("x", 1)))
			}
		}),
		badSubmit("a participant twice", "branches[1].participant", "each participant once", func(r *pb.SubmitRequest) {
			r.Branches = append(r.Branches, branch("p", add("y", 1)))
		}),
		badSubmit("an odd participant", "branches[0].participant", "1 to 64 bytes of [a-z0-9-]", func(r *pb.SubmitRequest) { r.Branches[0].Participant = "P" }),
		badSubmit("no participant", "branches[0].participant", "1 to 64 bytes", func(r *pb.SubmitRequest) { r.Branches[0].Participant = "" }),
		badSubmitFor("an unknown participant", rpc.ReasonParticipantUnknown, "branches[0]", "nobody", func(r *pb.SubmitRequest) { r.Branches[0].Participant = "nobody" }),
		badSubmit("an id of 49 bytes", "id", ids, id(strings.Repeat("a", 49))),
		badSubmit("an id with a slash", "id", ids, id("a/b")),
		badSubmit("an id with a space", "id", ids, id("a b")),
		badSubmit("an id with a NUL", "id", ids, id("a\x00b")),
		badSubmit("an id of dots", "id", "not only dots", id("..")),
		badSubmit("an odd retry_of", "retry_of", ids, func(r *pb.SubmitRequest) { r.RetryOf = "../x" }),
		badSubmit("a wait out of range", "wait", "DECIDED or COMPLETED", func(r *pb.SubmitRequest) { r.Wait = 7 }),
		badSubmit("a negative timeout", "timeout", times, timeout(-time.Second)),
		badSubmit("no time at all", "timeout", times, timeout(0)),
		badSubmit("a tiny timeout", "timeout", times, timeout(49*time.Millisecond)),
		badSubmit("a long timeout", "timeout", times, timeout(61*time.Second)),
		badSubmit("a huge timeout", "timeout", times, func(r *pb.SubmitRequest) { r.Timeout = &durationpb.Duration{Seconds: math.MaxInt64} }),
		badSubmit("a payload over the limit", "branches[0].payload", "65536 bytes", payload(large)),
		badSubmit("payloads over the limit together", "branches", "262144 bytes", func(r *pb.SubmitRequest) {
			r.Branches = nil
			for i := range 5 {
				r.Branches = append(r.Branches, &pb.Branch{Participant: fmt.Sprintf("p%d", i), Payload: []byte(large[:60<<10])})
			}
		}),
		badSubmit("no payload", "branches[0].payload", "", payload("")),
		badSubmit("a payload that is not JSON", "branches[0].payload", "", payload(`{"ops":[`)),
		badSubmit("a payload with something behind it", "branches[0].payload", "", payload(`{"ops":[`+add("x", 1)+`]} x`)),
		badSubmit("no ops", "branches[0].payload.ops", "1 to 256", payload(`{"ops":[]}`)),
		badSubmit("an unknown field", "branches[0].payload.options", "only ops", payload(`{"ops":[`+add("x", 1)+`],"options":1}`)),
		badSubmit("an unknown field of an operation", "branches[0].payload.ops[0].colour", "", payload(`{"ops":[{"op":"add","key":"x","delta":1,"colour":2}]}`)),
		badSubmit("an unknown operation", "branches[0].payload.ops[0].op", "", payload(`{"ops":[{"op":"multiply","key":"x"}]}`)),
		badSubmit("a delta over 64 bits", "branches[0].payload.ops[0].delta", "", payload(`{"ops":[{"op":"add","key":"x","delta":9223372036854775808}]}`)),
		badSubmit("a delta that is a fraction", "branches[0].payload.ops[0].delta", "", payload(`{"ops":[{"op":"add","key":"x","delta":1.5}]}`)),
		badSubmit("an operation without a key", "branches[0].payload.ops[0].key", "", payload(`{"ops":[{"op":"get"}]}`)),
	}
	list = append(list, badSubmitFor("an id with other content", rpc.ReasonIDReused, "", "used", func(r *pb.SubmitRequest) {
		r.Id, r.Branches = "used", []*pb.Branch{branch("p", add("x", 2))}
	}))
	return list
}

func badOthers(p *party, foreign *party) []badCall {
	invalid := func(name, field, limit string, call func(context.Context, pb.CoordinatorClient, pb.ClusterClient) error) badCall {
		return badCall{name: name, reason: rpc.ReasonInvalidArgument, field: field, parts: []string{limit}, call: call}
	}
	add := func(name string, endpoints ...string) func(context.Context, pb.CoordinatorClient, pb.ClusterClient) error {
		return func(ctx context.Context, _ pb.CoordinatorClient, c pb.ClusterClient) error {
			_, err := c.AddParticipant(ctx, &pb.AddParticipantRequest{Name: name, Endpoints: endpoints})
			return err
		}
	}
	list := func(r *pb.ListRequest) func(context.Context, pb.CoordinatorClient, pb.ClusterClient) error {
		return func(ctx context.Context, c pb.CoordinatorClient, _ pb.ClusterClient) error {
			_, err := c.List(ctx, r)
			return err
		}
	}
	resolve := func(r *pb.ResolveRequest) func(context.Context, pb.CoordinatorClient, pb.ClusterClient) error {
		return func(ctx context.Context, c pb.CoordinatorClient, _ pb.ClusterClient) error {
			_, err := c.Resolve(ctx, r)
			return err
		}
	}
	var seventeen []string
	for i := range 17 {
		seventeen = append(seventeen, fmt.Sprintf("127.0.0.1:%d", 1000+i))
	}
	return []badCall{
		invalid("get an odd id", "id", "1 to 48 bytes", func(ctx context.Context, c pb.CoordinatorClient, _ pb.ClusterClient) error {
			_, err := c.Get(ctx, &pb.GetRequest{Id: "a/b"})
			return err
		}),
		invalid("abort no id", "id", "1 to 48 bytes", func(ctx context.Context, c pb.CoordinatorClient, _ pb.ClusterClient) error {
			_, err := c.Abort(ctx, &pb.AbortRequest{})
			return err
		}),
		invalid("abort with a long message", "message", "512 bytes", func(ctx context.Context, c pb.CoordinatorClient, _ pb.ClusterClient) error {
			_, err := c.Abort(ctx, &pb.AbortRequest{Id: "x", Message: strings.Repeat("m", 513)})
			return err
		}),
		invalid("list too many", "limit", "1 to 1000", list(&pb.ListRequest{Limit: 1001})),
		invalid("list an unknown state", "states", "states", list(&pb.ListRequest{States: []pb.State{99}})),
		invalid("list no state", "states", "states", list(&pb.ListRequest{States: []pb.State{0}})),
		invalid("list an odd participant", "participant", "1 to 64 bytes", list(&pb.ListRequest{Participant: "P"})),
		invalid("resolve nothing", "give_up", "either", resolve(&pb.ResolveRequest{Id: "used"})),
		invalid("resolve both", "give_up", "either", resolve(&pb.ResolveRequest{Id: "used", GiveUp: []string{"p"}, Acknowledge: true})),
		invalid("resolve by a long operator", "operator", "64 bytes", resolve(&pb.ResolveRequest{Id: "used", Acknowledge: true, Operator: strings.Repeat("o", 65)})),
		invalid("give up somebody else", "give_up", "participants of the transaction", resolve(&pb.ResolveRequest{Id: "used", GiveUp: []string{"q"}})),
		invalid("too many inquiries", "branches", "1000", func(ctx context.Context, c pb.CoordinatorClient, _ pb.ClusterClient) error {
			_, err := c.Outcomes(ctx, &pb.OutcomesRequest{Participant: "p", Branches: make([]*pb.BranchRef, 1001)})
			return err
		}),
		invalid("register an odd name", "name", "1 to 64 bytes", add("P", p.endpoint())),
		invalid("register no endpoint", "endpoints", "1 to 16", add("p")),
		invalid("register 17 endpoints", "endpoints", "1 to 16", add("p", seventeen...)),
		invalid("register no port", "endpoints[0]", "host:port", add("p", "127.0.0.1")),
		invalid("register port 0", "endpoints[0]", "1 to 65535", add("p", "127.0.0.1:0")),
		invalid("register a long endpoint", "endpoints[0]", "256 bytes", add("p", strings.Repeat("h", 300)+":80")),
		invalid("register an endpoint twice", "endpoints[1]", "each endpoint once", add("p", p.endpoint(), p.endpoint())),
		invalid("register under another name", "endpoints[0]", `participant "p"`, add("other", p.endpoint())),
		{"register another cluster's data", add("p", foreign.endpoint()), rpc.ReasonWrongCluster, "", []string{"endpoints[0]"}},
		{"register where nobody answers", add("p", "127.0.0.1:1"), rpc.ReasonParticipantUnavailable, "", []string{"endpoints[0]"}},
	}
}

// Bad input is refused whole, with field and limit in the error, by leader and
// follower, and nothing is logged or changed.
func TestBadInput(t *testing.T) {
	quiet := func(c *participant.Config) { c.ForgetEvery = time.Hour }
	other := newWorld(t, options{participants: []string{"p"}, party: quiet})
	other.commits(request("bind", pb.Wait_COMPLETED, branch("p", add("x", 1))))
	w := newWorld(t, options{nodes: 3, steady: true, participants: []string{"p", "p0", "p1", "p2", "p3", "p4"}, party: quiet})
	w.commits(request("used", pb.Wait_COMPLETED, branch("p", add("x", 1))))
	index, writes := w.quiet(), w.parties["p"].data().Stats().Writes
	leader := w.leader()
	for _, bad := range append(badSubmits(), badOthers(w.parties["p"], other.parties["p"])...) {
		t.Run(bad.name, func(t *testing.T) {
			for _, i := range []int{leader, w.followers(leader)[0]} {
				conn := w.dial(w.members[i].address)
				err := bad.call(w.ctx(), pb.NewCoordinatorClient(conn), pb.NewClusterClient(conn))
				e := rpc.FromError(err)
				switch {
				case err == nil:
					t.Fatal("it was taken")
				case e.Reason != bad.reason || e.Field != bad.field && !strings.HasPrefix(e.Field, bad.field+"."):
					t.Errorf("want %s about %q, got %s about %q: %v", bad.reason, bad.field, e.Reason, e.Field, err)
				case e.Reason == rpc.ReasonInvalidArgument && e.Limit == "":
					t.Errorf("no limit in %v", err)
				}
				for _, part := range bad.parts {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q is not in %v", part, err)
					}
				}
			}
		})
	}
	if now := w.quiet(); now != index {
		t.Errorf("the log went from %d to %d", index, now)
	}
	if now := w.parties["p"].data().Stats().Writes; now != writes {
		t.Errorf("the participant wrote %d times", now-writes)
	}
}

// What only the data can tell is a vote: a sum that overflows 64 bits.
func TestOverflowOfASum(t *testing.T) {
	w := newWorld(t, options{participants: []string{"p", "q"}, node: func(c *node.Config) { c.AlertAfter = time.Second }})
	w.commits(request("max", pb.Wait_COMPLETED, branch("p", add("x", math.MaxInt64))))
	w.aborts(request("more", pb.Wait_COMPLETED, branch("p", add("x", 1)), branch("q", add("x", 1))), pb.Reason_CONDITION, "p")
	w.settled()
	if got := w.parties["p"].value("x"); got != fmt.Sprint(math.MaxInt64) {
		t.Errorf("x is %s", got)
	}
}
