package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestFiveLeaderKillsUnderLoad: 60 s of load through all three nodes, the
// leader killed with kill -9 five times and restarted each time.
func TestFiveLeaderKillsUnderLoad(t *testing.T) {
	duration := 60 * time.Second
	if testing.Short() {
		duration = 15 * time.Second
	}
	w := newWorld(t, local.Config{Participants: []string{"seats", "payments"}})
	l := newLoad(w, "seats", "payments", "k")
	ctx, stop := context.WithTimeout(context.Background(), duration)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, 24) })
	pace := time.NewTicker(duration / 6)
	defer pace.Stop()
	for range 5 {
		<-pace.C
		leader, err := w.AwaitLeader(within(t, 20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		before := l.commits.Load()
		w.kill(leader.Process)
		eventually(t, 15*time.Second, "commits go on without "+leader.ID, func() bool { return l.commits.Load() > before+50 })
		w.restart(leader.Process)
	}
	wg.Wait()
	l.audit()
	if l.commits.Load() < 1000 {
		t.Errorf("only %d commits: the load proves little", l.commits.Load())
	}
}

// TestWholeClusterKilledUnderLoad: every node and participant dies at once, by
// kill -9, and comes back.
func TestWholeClusterKilledUnderLoad(t *testing.T) {
	w := newWorld(t, local.Config{Participants: []string{"seats", "payments"}})
	l := newLoad(w, "seats", "payments", "w")
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, 16) })
	for round := range int64(2) {
		eventually(t, 30*time.Second, "the load commits", func() bool { return l.commits.Load() > 300*(round+1) })
		var all []*local.Process
		for _, n := range w.Nodes {
			all = append(all, n.Process)
		}
		for _, p := range w.Participants {
			all = append(all, p.Process)
		}
		for _, p := range all {
			w.kill(p)
		}
		for _, p := range all {
			w.restart(p)
		}
		before := l.commits.Load()
		eventually(t, 30*time.Second, "commits go on", func() bool { return l.commits.Load() > before+100 })
	}
	stop()
	wg.Wait()
	for _, odd := range l.odd { // participants were down: their timeouts are the clients' to see
		t.Logf("aborted while the participants were down: %s", odd)
	}
	l.odd = nil
	l.audit()
}

// TestParticipantKilledAfterItsVote: it holds its locks again before it serves,
// and settles by itself.
func TestParticipantKilledAfterItsVote(t *testing.T) {
	w := newWorld(t, local.Config{Participants: []string{"seats", "payments"}})
	seats := w.Participants["seats"]
	l := newLoad(w, "seats", "payments", "p")
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, 32) })
	for round := range int64(5) {
		eventually(t, 30*time.Second, "the load commits", func() bool { return l.commits.Load() > 200*(round+1) })
		w.kill(seats.Process)
		w.restart(seats.Process)
		before := l.commits.Load()
		eventually(t, 30*time.Second, "commits go on", func() bool { return l.commits.Load() > before })
	}
	stop()
	wg.Wait()
	l.odd = nil // it was down: timeouts are expected
	l.audit()
}

// TestStoppedParticipant: SIGSTOP before its vote. The budget ends in an abort
// that names it; the others are rolled back, and it too when it wakes.
func TestStoppedParticipant(t *testing.T) {
	w := newWorld(t, local.Config{Participants: []string{"seats", "payments"}})
	seats := w.Participants["seats"]
	if err := seats.Pause(); err != nil {
		t.Fatal(err)
	}
	ops := []byte(`{"ops":[{"op":"add","key":"k","delta":1}]}`)
	r, err := w.client.Submit(within(t, 20*time.Second), &pb.SubmitRequest{
		Id: "stopped", Timeout: seconds(1),
		Branches: []*pb.Branch{{Participant: "seats", Payload: ops}, {Participant: "payments", Payload: ops}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.GetOutcome() != pb.Outcome_ABORT || r.GetReason().GetCode() != pb.Reason_TIMEOUT || r.GetReason().GetParticipant() != "seats" {
		t.Fatalf("got %v", r)
	}
	eventually(t, 10*time.Second, "payments is rolled back while seats sleeps", func() bool {
		s, err := w.client.ScanKV(within(t, 5*time.Second), "payments", &pb.ScanRequest{})
		return err == nil && s.GetLocks() == 0 && len(s.GetItems()) == 0
	})
	if err := seats.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "seats is rolled back when it wakes", func() bool {
		r, err := w.client.Get(within(t, 5*time.Second), &pb.GetRequest{Id: "stopped"})
		return err == nil && r.GetState() == pb.State_STATE_ABORTED && len(r.GetPending()) == 0
	})
	s, err := w.client.ScanKV(within(t, 5*time.Second), "seats", &pb.ScanRequest{})
	if err != nil || s.GetLocks() != 0 || len(s.GetItems()) != 0 {
		t.Fatalf("seats after waking: %v, %v", s, err)
	}
}
