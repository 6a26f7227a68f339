package participant_test

import (
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestRefusals sends messages that must change nothing.
func TestRefusals(t *testing.T) {
	f := newFixture(t, inProcess{newLedger(true)}, nil)
	f.term = 5
	f.floor = rpc.Attempt{Generation: 1, Term: 1, Sequence: 10}
	f.prepared(work("first", 10, "add k"))
	before, err := f.c.Identity(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(p *pb.PrepareRequest)
		want   rpc.ErrorReason
		// only: Commit and Rollback are not refused for it.
		only bool
	}{
		{name: "no fence", change: func(p *pb.PrepareRequest) { p.Fence = nil }, want: rpc.ReasonInvalidArgument},
		{name: "other cluster", change: func(p *pb.PrepareRequest) { p.Fence.ClusterId = "c2" }, want: rpc.ReasonWrongCluster},
		{name: "no cluster", change: func(p *pb.PrepareRequest) { p.Fence.ClusterId = "" }, want: rpc.ReasonInvalidArgument},
		{name: "older generation", change: func(p *pb.PrepareRequest) { p.Fence.Generation, p.Branch.Attempt.Generation, p.Priority = 0, 0, nil }, want: rpc.ReasonWrongGeneration},
		{name: "older term", change: func(p *pb.PrepareRequest) { p.Fence.Term = 4 }, want: rpc.ReasonStaleTerm, only: true},
		{name: "fence of another participant", change: func(p *pb.PrepareRequest) { p.Fence.Participant = "q" }, want: rpc.ReasonWrongParticipant},
		{name: "branch of another participant", change: func(p *pb.PrepareRequest) { p.Branch.Participant = "q" }, want: rpc.ReasonWrongParticipant},
		{name: "other incarnation", change: func(p *pb.PrepareRequest) { p.Fence.Incarnation = "restored" }, want: rpc.ReasonWrongIncarnation},
		{name: "below the floor", change: func(p *pb.PrepareRequest) { p.Branch.Attempt.Sequence, p.Priority = 9, nil }, want: rpc.ReasonBelowFloor, only: true},
		{name: "attempt of a later term", change: func(p *pb.PrepareRequest) { p.Branch.Attempt.Term = 6 }, want: rpc.ReasonInvalidArgument},
		{name: "no attempt", change: func(p *pb.PrepareRequest) { p.Branch.Attempt = nil }, want: rpc.ReasonInvalidArgument},
		{name: "empty id", change: func(p *pb.PrepareRequest) { p.Branch.Id = "" }, want: rpc.ReasonInvalidArgument},
		{name: "odd id", change: func(p *pb.PrepareRequest) { p.Branch.Id = "a/b" }, want: rpc.ReasonInvalidArgument},
		{name: "long id", change: func(p *pb.PrepareRequest) { p.Branch.Id = strings.Repeat("a", 49) }, want: rpc.ReasonInvalidArgument},
		{name: "short digest", change: func(p *pb.PrepareRequest) { p.Branch.Digest = p.Branch.Digest[1:] }, want: rpc.ReasonInvalidArgument},
		{name: "digest of another payload", change: func(p *pb.PrepareRequest) { p.Payload = []byte("add other") }, want: rpc.ReasonInvalidArgument, only: true},
		{name: "large payload", change: func(p *pb.PrepareRequest) { p.Payload = make([]byte, 64<<10+1) }, want: rpc.ReasonInvalidArgument, only: true},
		{name: "priority newer than the attempt", change: func(p *pb.PrepareRequest) { p.Priority.Sequence = 12 }, want: rpc.ReasonInvalidArgument, only: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fixture{T: t, c: f.c, server: f.server, term: 5, floor: f.floor}
			req := f.prepareRequest(work("second", 11, "add k2"))
			tt.change(req)
			_, err := f.server.Prepare(f.ctx(), req)
			f.wantReason(err, tt.want)
			if tt.only {
				return
			}
			_, err = f.server.Commit(f.ctx(), &pb.CommitRequest{Fence: req.Fence, Branch: req.Branch})
			f.wantReason(err, tt.want)
			_, err = f.server.Rollback(f.ctx(), &pb.RollbackRequest{Fence: req.Fence, Branch: req.Branch})
			f.wantReason(err, tt.want)
		})
	}
	if e := f.c.entry("second"); !e.IsZero() {
		t.Errorf("a refused message left %+v", e)
	}
	if after, err := f.c.Identity(f.ctx()); err != nil || after != before {
		t.Errorf("a refused message changed the identity to %+v, %v; was %+v", after, err, before)
	}
}

func TestFenceRises(t *testing.T) {
	f := newFixture(t, inProcess{newLedger(true)}, nil)
	w := work("t", 1, "add k")
	f.prepared(w)
	f.term = 3
	f.prepared(w) // the new leader asks again
	f.term = 2
	_, err := f.prepare(work("u", 1, "add k2"))
	f.wantReason(err, rpc.ReasonStaleTerm)
	if resp, err := f.commit(w); err != nil || resp.GetSettled() != pb.Settled_SETTLED_DONE {
		t.Fatalf("Commit of an older term: %v, %v", resp, err)
	}
	f.restart(inProcess{newLedger(true)})
	_, err = f.prepare(work("u", 1, "add k2"))
	f.wantReason(err, rpc.ReasonStaleTerm)

	// A new generation starts its terms anew, and keeps what it is told.
	req := f.prepareRequest(work("v", 1, "add k3"))
	req.Fence.Generation, req.Fence.Term = 2, 1
	if resp, err := f.server.Prepare(f.ctx(), req); err != nil || resp.GetVote() != pb.Vote_VOTE_PREPARED {
		t.Fatalf("Prepare of a new generation: %v, %v", resp, err)
	}
	d, err := f.server.Describe(f.ctx(), nil)
	if err != nil || d.GetGeneration() != 2 || d.GetTerm() != 1 || d.GetClusterId() != "c1" || d.GetName() != "p" || d.GetKind() != "counter" || d.GetPrepared() != 1 {
		t.Fatalf("Describe: %v, %v", d, err)
	}
	id, err := f.c.Identity(f.ctx())
	if want := (participant.Binding{ClusterID: "c1", Generation: 2, Term: 1}); err != nil || id.Binding != want {
		t.Fatalf("durable binding %+v, %v; want %+v", id.Binding, err, want)
	}
}

func TestConfigValidate(t *testing.T) {
	_, err := participant.Open(t.Context(), participant.Config{Name: "No Name", Tries: 99})
	if err == nil {
		t.Fatal("an unusable configuration was taken")
	}
	for _, field := range []string{"Name", "ResourceManager", "Cluster", "Tries", "InquiryDelay", "AlertAfter", "ForgetEvery"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%q does not name %s", err, field)
		}
	}
	if _, err := participant.Dial(nil); err == nil {
		t.Error("Dial of no node succeeded")
	}
	if _, err := participant.Dial([]string{"127.0.0.1:1", "no port"}); err == nil {
		t.Error("Dial of an address without a port succeeded")
	}
}
