package databases

import (
	"fmt"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// settles is how long a branch may stay prepared after everything is back.
const settles = 10 * time.Second

// audit waits until nothing is prepared, then holds what the participants have
// against every answer.
func (l *load) audit() {
	t := l.w.t
	t.Helper()
	l.w.nothingPrepared(settles)
	for mark, u := range l.unknown {
		r, err := l.learn(u)
		if err != nil {
			t.Fatalf("the outcome of %s cannot be learned: %v", u.ID, err)
		}
		l.outcomes[mark] = r.GetOutcome()
	}
	l.w.nothingPrepared(settles)
	eventually(t, settles, "no lock is left in the KV", func() bool {
		r, err := l.w.client.ScanKV(within(t, 5*time.Second), l.w.name(kv), &pb.ScanRequest{Limit: 1})
		return err == nil && r.GetLocks() == 0
	})
	t.Logf("%d transfers: %d committed, %d not known at once, aborted by reason %v; %d sums read in transactions, %d plain reads, %d counted",
		len(l.postings), l.commits.Load(), len(l.unknown), l.aborts, l.audits.Load(), l.reads.Load(), l.bumps.Load())
	for _, kind := range []string{pg, maria, kv} {
		l.compare(kind, l.w.contents(kind))
	}
	for kind, v := range l.w.vaults() {
		if n, err := v.number(within(t, patience), "SELECT n FROM counter"); err != nil || n != l.bumps.Load() {
			t.Errorf("%s: the counter is %d, %v, and was counted %d times", kind, n, err, l.bumps.Load())
		}
	}
}

// contents is what a participant has committed.
type contents struct {
	balances map[int]int
	marks    map[string]bool
}

func (l *load) compare(kind string, found contents) {
	t := l.w.t
	want := contents{map[int]int{}, map[string]bool{}}
	for mark, list := range l.postings {
		for _, p := range list {
			if p.kind != kind || l.outcomes[mark] != pb.Outcome_COMMIT {
				continue
			}
			want.balances[p.account] += p.delta
			want.marks[mark] = true
		}
	}
	for mark := range want.marks {
		if !found.marks[mark] {
			t.Errorf("%s: %s was committed and is not there", kind, mark)
		}
	}
	for mark := range found.marks {
		if !want.marks[mark] {
			t.Errorf("%s: %s is there and its outcome is %v", kind, mark, l.outcomes[mark])
		}
	}
	for a := range accounts {
		if found.balances[a] != want.balances[a] {
			t.Errorf("%s: account %d has %d, the answers make %d", kind, a, found.balances[a], want.balances[a])
		}
	}
}

// contents reads accounts and marks of a participant.
func (w *world) contents(kind string) contents {
	w.t.Helper()
	c := contents{map[int]int{}, map[string]bool{}}
	ctx := within(w.t, patience)
	if kind == kv {
		for after, more := "", true; more; {
			r, err := w.client.ScanKV(ctx, w.name(kv), &pb.ScanRequest{After: after, Limit: 10_000})
			if err != nil {
				w.t.Fatal(err)
			}
			for _, item := range r.GetItems() {
				after = item.GetKey()
				if mark, ok := strings.CutPrefix(after, "mark/"); ok {
					c.marks[mark] = true
				} else {
					c.account(w, strings.TrimPrefix(after, "acct/"), string(item.GetValueJson()))
				}
			}
			more = r.GetMore()
		}
		return c
	}
	v := w.vaults()[kind]
	marks, err := v.text(ctx, "SELECT id FROM mark")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range marks {
		c.marks[m] = true
	}
	rows, err := v.text(ctx, "SELECT CONCAT(id, ' ', balance) FROM acct")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, row := range rows {
		a, balance, _ := strings.Cut(row, " ")
		c.account(w, a, balance)
	}
	return c
}

func (c contents) account(w *world, id, balance string) {
	var a, n int
	if _, err := fmt.Sscan(id+" "+balance, &a, &n); err != nil {
		w.t.Fatalf("account %q has %q: %v", id, balance, err)
	}
	c.balances[a] = n
}
