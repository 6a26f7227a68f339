package databases

import (
	"fmt"
	"maps"
	"testing"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestTwoClusters: agents of two clusters over the same two databases, and
// transactions that somebody has prepared by hand, some under names that begin
// as ours do. Nobody touches what is not theirs.
func TestTwoClusters(t *testing.T) {
	b := newBank(t, accounts)
	hands := b.preparedByHand(t)
	first, second := newWorld(t, b, "-first"), newWorld(t, b, "-second")

	// The first cluster leaves a branch in each database, and nobody who cares.
	waits := first.undecided("waits", 0, first.entry(kv, "waits", 0, -2))
	for _, a := range first.agents {
		first.kill(a.Process)
	}
	// The second has branches in doubt, and agents that look for what they have left.
	theirs := second.undecided("theirs", 1, second.entry(kv, "theirs", 1, -2))
	for _, a := range second.agents {
		second.kill(a.Process)
		second.start(a.Process)
	}
	second.decide()
	if r := theirs.answer(t); r.GetOutcome() != pb.Outcome_COMMIT || len(r.GetPending()) > 0 {
		t.Errorf("the second cluster's transaction came to %v", r)
	}
	for kind := range b.vaults() {
		if n := first.preparedOf(kind, "waits"); len(n) != 1 {
			t.Errorf("%s: of the first cluster's branch is left %v", kind, n)
		}
		if n := second.preparedOf(kind, "theirs"); len(n) != 0 {
			t.Errorf("%s: the second cluster has left %v", kind, n)
		}
		second.counts(kind, map[pb.PreparedTransaction_Owner]int{pb.PreparedTransaction_OTHER_CLUSTER: 1, pb.PreparedTransaction_FOREIGN: 2})
	}
	for _, a := range first.agents {
		first.start(a.Process)
	}
	first.decide()
	if r := waits.answer(t); r.GetOutcome() != pb.Outcome_COMMIT || len(r.GetPending()) > 0 || r.GetNeedsOperator() {
		t.Errorf("the first cluster's transaction came to %v", r)
	}
	for kind := range b.vaults() {
		if found := first.contents(kind); !found.marks["waits"] || !found.marks["theirs"] {
			t.Errorf("%s: both transactions are committed, and %v is there", kind, found.marks)
		}
	}
	for _, end := range hands {
		end() // fails unless it is there still
	}
	first.nothingPrepared(settles)
}

// preparedByHand prepares transactions in both databases, and returns what rolls each back.
func (b *bank) preparedByHand(t *testing.T) (end []func()) {
	t.Helper()
	undo := func(v vault, statement string) {
		end = append(end, func() {
			if err := v.exec(within(t, patience), statement); err != nil {
				t.Errorf("a transaction that was prepared by hand is not there any more: %v", err)
			}
		})
	}
	for i, gid := range []string{"hand-made", "concordat:AAAAAAAAAAAA:postgres-second:1.1.1:x:hand"} {
		undo(b.postgres, "ROLLBACK PREPARED '"+gid+"'")
		if err := b.postgres.exec(within(t, patience), "BEGIN", fmt.Sprintf("INSERT INTO mark VALUES ('hand-%d')", i), "PREPARE TRANSACTION '"+gid+"'"); err != nil {
			t.Fatal(err)
		}
	}
	for i, xid := range []string{"'hand-made'", "'hand','cncd',1129202500"} { // with the format of ours
		conn, err := b.maria.Conn(within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"XA START " + xid, fmt.Sprintf("INSERT INTO mark VALUES ('hand-%d')", i), "XA END " + xid, "XA PREPARE " + xid} {
			if _, err := conn.ExecContext(within(t, patience), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		end = append(end, func() {
			if _, err := conn.ExecContext(within(t, patience), "XA ROLLBACK "+xid); err != nil {
				t.Errorf("a transaction that was prepared by hand is not there any more: %v", err)
			}
			_ = conn.Close()
		})
	}
	return end
}

// counts demands what the agent of a database finds prepared there, by owner.
func (w *world) counts(kind string, want map[pb.PreparedTransaction_Owner]int) {
	w.t.Helper()
	r, err := w.client.Census(within(w.t, patience), w.name(kind))
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[pb.PreparedTransaction_Owner]int{}
	for _, p := range r.GetPrepared() {
		found[p.GetOwner()]++
	}
	if !maps.Equal(found, want) {
		w.t.Errorf("%s: the census finds %v, want %v: %v", kind, found, want, r.GetPrepared())
	}
}
