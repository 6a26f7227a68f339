package fsm

import (
	"bytes"
	"testing"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// What a leader logs says nothing twice: a Begin has no digests that follow from
// its content, a Decide and a Finish name the unfinished transaction by its
// attempt. It comes to the same records as the long form.
func TestShortCommands(t *testing.T) {
	long, short := newWorld(t), newWorld(t)
	digests := func(c *fsmpb.Begin) {
		content := DigestOfContent(len(c.GetBranches()), func(i int) (string, Digest) {
			return c.GetBranches()[i].GetParticipant(), DigestOf(c.GetBranches()[i].GetPayload())
		})
		c.Digest = content[:]
	}
	a := long.attempt()
	if b := short.attempt(); a != b {
		t.Fatalf("attempts %s and %s", a, b)
	}
	steps := []struct{ long, short *fsmpb.Command }{
		{beginWith("t", a, digests, "a", "b"), beginWith("t", a, func(c *fsmpb.Begin) {
			c.Digest = nil
			for _, b := range c.GetBranches() {
				b.Digest = nil
			}
		}, "a", "b")},
		{commit("t", a, VotePrepared, VotePrepared), commit("", a, VotePrepared, VotePrepared)},
		{finish("t", a, SettledDone, SettledDone), finish("", a, SettledDone, SettledDone)},
	}
	for _, s := range steps {
		long.ok(s.long)
		short.ok(s.short)
		if long.content() != short.content() {
			t.Fatalf("the states differ after %v", s.short)
		}
		m, err := Restore(bytes.NewReader(snapshotBytes(t, short.m.Snapshot())))
		if err != nil {
			t.Fatal(err)
		}
		short.m = m // what is derived from a snapshot knows the attempt, too
	}
	// Finished: the attempt alone finds it no more, and nothing changes.
	short.no(commit("", a, VotePrepared, VotePrepared), KindNotFound)
	short.no(finish("", a, SettledDone, SettledDone), KindNotFound)
	short.no(commit("", Attempt{}, VotePrepared), KindNotFound)
}
