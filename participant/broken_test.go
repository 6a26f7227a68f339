package participant_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m, goleak.Cleanup(os.Exit))
}

// recorder turns failures into data. Everything else is the test's own.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	skipped  bool
	cleanups []func()
}

func (r *recorder) fail(message string) {
	r.mu.Lock()
	r.failures = append(r.failures, message)
	r.mu.Unlock()
}

func (r *recorder) Fail()                     { r.fail("failed") }
func (r *recorder) FailNow()                  { r.fail("failed"); runtime.Goexit() }
func (r *recorder) Error(args ...any)         { r.fail(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, a ...any) { r.fail(fmt.Sprintf(f, a...)) }
func (r *recorder) Fatal(args ...any)         { r.fail(fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(f string, a ...any) { r.fail(fmt.Sprintf(f, a...)); runtime.Goexit() }
func (r *recorder) Skip(...any)               { r.skipped = true; runtime.Goexit() }
func (r *recorder) Log(...any)                {}
func (r *recorder) Logf(string, ...any)       {}
func (r *recorder) Cleanup(f func())          { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

// observe runs one check and returns what it complained about.
func observe(t *testing.T, c participanttest.Check, mk participanttest.Make, wire bool) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(r, mk, wire) })
	wg.Wait()
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return r
}

// altered is a counter with one defect of those that resource managers have had.
type altered struct {
	*counter
	mu       sync.Mutex // calls that have a defect are made one by one: it must be the only one
	prepare  func(ctx context.Context, w participant.Work) (participant.Vote, error)
	commit   func(ctx context.Context, ref participant.Ref) (participant.Settlement, error)
	rollback func(ctx context.Context, ref participant.Ref) (participant.Settlement, error)
	once     func(ctx context.Context, w participant.Work) (participant.Vote, error)
	bind     func(ctx context.Context, b participant.Binding) error
	forget   func(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error
}

func (b *altered) Prepare(ctx context.Context, w participant.Work) (participant.Vote, error) {
	if b.prepare != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.prepare(ctx, w)
	}
	return b.counter.Prepare(ctx, w)
}

func (b *altered) Commit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	if b.commit != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.commit(ctx, ref)
	}
	return b.counter.Commit(ctx, ref)
}

func (b *altered) Rollback(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	if b.rollback != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.rollback(ctx, ref)
	}
	return b.counter.Rollback(ctx, ref)
}

func (b *altered) CommitOnePhase(ctx context.Context, w participant.Work) (participant.Vote, error) {
	if b.once != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.once(ctx, w)
	}
	return b.counter.CommitOnePhase(ctx, w)
}

func (b *altered) Bind(ctx context.Context, x participant.Binding) error {
	if b.bind != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.bind(ctx, x)
	}
	return b.counter.Bind(ctx, x)
}

func (b *altered) Forget(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	if b.forget != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.forget(ctx, floor, refs)
	}
	return b.counter.Forget(ctx, floor, refs)
}

// edit changes the record of an id in a write of its own.
func (c *counter) edit(id string, f func(tx *bbolt.Tx, r *record)) error {
	return c.write(func(tx *bbolt.Tx) (bool, error) {
		r, _, err := load(tx, id)
		if err != nil {
			return false, err
		}
		f(tx, &r)
		return true, store(tx, id, r)
	})
}

func (c *counter) entry(id string) (e participant.Entry) {
	_ = c.read(func(tx *bbolt.Tx) error { // a dead counter has the zero entry
		r, _, err := load(tx, id)
		e = r.Entry
		return err
	})
	return e
}

type seeded struct {
	name   string
	checks string // those that must complain, by a part of their names
	wrap   func(c *counter) participant.ResourceManager
}

var seededDefects = []seeded{
	{"forgets tombstones", "tombstone,rollback/,crash/,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, rollback: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
			if e := c.entry(ref.ID); e.Held == nil && len(e.Committed) == 0 {
				return participant.Done, nil
			}
			return c.Rollback(ctx, ref)
		}}
	}},
	{"votes before it is durable", "held branches survive,prepare/twice,nothing is answered,schedule", func(c *counter) participant.ResourceManager {
		late := make(map[string]participant.Work)
		flush := func(ctx context.Context, ref participant.Ref) {
			if w, ok := late[ref.ID]; ok && w.Ref == ref {
				delete(late, ref.ID)
				_, _ = c.Prepare(ctx, w) // its error comes again from what follows
			}
		}
		return &altered{
			counter: c,
			prepare: func(_ context.Context, w participant.Work) (participant.Vote, error) {
				if !strings.HasPrefix(string(w.Payload), "add") {
					return participant.Aborted(pb.Reason_CONDITION, ""), nil
				}
				late[w.ID] = w
				return participant.Prepared(nil), nil
			},
			commit: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
				flush(ctx, ref)
				return c.Commit(ctx, ref)
			},
			rollback: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
				flush(ctx, ref)
				return c.Rollback(ctx, ref)
			},
		}
	}},
	{"acknowledges commits it knows nothing of", "commit/unknown,attempt/,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, commit: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
			st, err := c.Commit(ctx, ref)
			if err == nil {
				st = participant.Done
			}
			return st, err
		}}
	}},
	{"acknowledges commits before they are durable", "commit/,crash/,schedule", func(c *counter) participant.ResourceManager {
		due := make(map[string]participant.Ref)
		return &altered{
			counter: c,
			prepare: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
				if ref, ok := due[w.ID]; ok {
					delete(due, w.ID)
					_, _ = c.Commit(ctx, ref) // its error comes again from what follows
				}
				return c.Prepare(ctx, w)
			},
			commit: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
				if e := c.entry(ref.ID); e.OnCommit(ref).Step != participant.Apply {
					return c.Commit(ctx, ref)
				}
				due[ref.ID] = ref
				return participant.Done, nil
			},
		}
	}},
	{"shows the effect when it is prepared", "no effect before,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, prepare: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			fresh := c.entry(w.ID).Held == nil
			v, err := c.Prepare(ctx, w)
			if err == nil && fresh && v.Kind == pb.Vote_VOTE_PREPARED {
				err = c.edit(w.ID, func(tx *bbolt.Tx, r *record) { _ = put(tx, bucketCounts, []byte(r.Key), 1) })
			}
			return v, err
		}}
	}},
	{"commits in two writes", "crash/around", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, commit: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
			v := c.entry(ref.ID).OnCommit(ref)
			if v.Step != participant.Apply {
				return c.Commit(ctx, ref)
			}
			err := c.edit(ref.ID, func(tx *bbolt.Tx, r *record) {
				var n int64
				_ = get(tx, bucketCounts, []byte(r.Key), &n)
				_ = put(tx, bucketCounts, []byte(r.Key), n+1)
			})
			if err != nil {
				return participant.Settlement{}, err
			}
			return participant.Done, c.edit(ref.ID, func(tx *bbolt.Tx, r *record) {
				_ = tx.Bucket(bucketLocks).Delete([]byte(r.Key))
				r.Entry = v.Entry
			})
		}}
	}},
	{"forgets what it committed", "late prepare runs nothing,commit/twice,second life,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, commit: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
			st, err := c.Commit(ctx, ref)
			if err == nil && st == participant.Done {
				err = c.edit(ref.ID, func(_ *bbolt.Tx, r *record) { r.Entry = participant.Entry{Held: r.Entry.Held} })
			}
			return st, err
		}}
	}},
	{"takes over in memory only", "takes over,crash/,schedule", func(c *counter) participant.ResourceManager {
		taken := make(map[participant.Ref]participant.Ref) // the newer attempt, and the one that is durable
		real := func(ref participant.Ref) participant.Ref {
			if old, ok := taken[ref]; ok {
				return old
			}
			return ref
		}
		return &altered{
			counter: c,
			prepare: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
				e := c.entry(w.ID)
				if v := e.OnPrepare(w.Ref, rpc.Attempt{}); v.Step == participant.TakeOver {
					taken[w.Ref] = participant.Ref{ID: w.ID, Attempt: e.Held.Attempt, Digest: e.Held.Digest}
					return participant.Prepared(e.Held.Result), nil
				}
				return c.Prepare(ctx, w)
			},
			commit: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
				return c.Commit(ctx, real(ref))
			},
		}
	}},
	{"commits whatever attempt it holds", "attempt/,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, commit: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
			if h := c.entry(ref.ID).Held; h != nil {
				ref.Attempt, ref.Digest = h.Attempt, h.Digest
			}
			return c.Commit(ctx, ref)
		}}
	}},
	{"acknowledges a rollback while another attempt is held", "attempt/,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, rollback: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
			st, err := c.Rollback(ctx, ref)
			if err == nil && st.Settled == pb.Settled_SETTLED_UNSPECIFIED {
				st = participant.Done
			}
			return st, err
		}}
	}},
	{"prepares an older attempt", "attempt/older,late prepare,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, prepare: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			v, err := c.Prepare(ctx, w)
			if err == nil && v.Code == pb.Reason_SUPERSEDED {
				return participant.Prepared(nil), nil
			}
			return v, err
		}}
	}},
	{"does not keep the fence", "fence/", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, bind: func(ctx context.Context, b participant.Binding) error {
			b.Term = min(b.Term, 1)
			return c.Bind(ctx, b)
		}}
	}},
	{"forgets without the floor", "floor outlives,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, forget: func(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
			id, err := c.Identity(ctx)
			if err != nil {
				return err
			}
			return errors.Join(c.Forget(ctx, floor, refs), c.Bind(ctx, id.Binding))
		}}
	}},
	{"forgets more than it was told", "forget/only", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, forget: func(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
			all, err := c.Finished(ctx, 1<<20)
			return errors.Join(err, c.Forget(ctx, floor, all))
		}}
	}},
	{"takes an id for another that begins like it", "ids/hostile", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, rollback: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
			st, err := c.Rollback(ctx, ref)
			held, _ := c.Held(ctx)
			for _, h := range held {
				if strings.HasPrefix(h.ID, ref.ID) && h.ID != ref.ID && err == nil {
					_, err = c.Rollback(ctx, h.Ref)
				}
			}
			return st, err
		}}
	}},
	{"forgets what it committed in one phase", "once/twice,once/other,crash/around,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, once: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			v, err := c.CommitOnePhase(ctx, w)
			if err == nil && v.Kind == pb.Vote_VOTE_COMMITTED {
				err = c.edit(w.ID, func(_ *bbolt.Tx, r *record) { r.Entry = participant.Entry{} })
			}
			return v, err
		}}
	}},
	{"commits in one phase over a tombstone", "once/after,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, once: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			if e := c.entry(w.ID); len(e.Refused) > 0 {
				_ = c.edit(w.ID, func(_ *bbolt.Tx, r *record) { r.Entry.Refused, r.Entry.Max = nil, rpc.Attempt{} })
			}
			return c.CommitOnePhase(ctx, w)
		}}
	}},
	{"commits in one phase past what is held", "once/waits,schedule", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, once: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			v, err := c.CommitOnePhase(ctx, w)
			if rpc.ReasonOf(err) == rpc.ReasonOtherHeld {
				return participant.Committed(nil), nil
			}
			return v, err
		}}
	}},
	{"commits in one phase in two writes", "crash/around", func(c *counter) participant.ResourceManager {
		return &altered{counter: c, once: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			v := c.entry(w.ID).OnCommitOnePhase(w.Ref, rpc.Attempt{})
			op, key, _ := strings.Cut(string(w.Payload), " ")
			if v.Step != participant.DoOnce || op != "add" {
				return c.CommitOnePhase(ctx, w)
			}
			if err := c.edit(w.ID, func(tx *bbolt.Tx, _ *record) { _ = increment(tx, key) }); err != nil {
				return participant.Vote{}, err
			}
			return participant.Committed(nil), c.edit(w.ID, func(_ *bbolt.Tx, r *record) { r.Entry = v.Entry.Once(w.Ref, nil) })
		}}
	}},
	{"lets go of its locks in a crash", "keeps others off", func(c *counter) participant.ResourceManager {
		_ = c.db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketLocks).ForEach(func(k, _ []byte) error { return tx.Bucket(bucketLocks).Delete(k) })
		})
		return c
	}},
}

// TestSuiteFindsDefects proves the suite: it must complain of every seeded
// defect, in at least one check of each group named, and of nothing without.
func TestSuiteFindsDefects(t *testing.T) {
	noFailFiles(t)
	for _, d := range seededDefects {
		t.Run(d.name, func(t *testing.T) {
			mk := func(t testing.TB) participanttest.Harness { return counterHarness(t, d.wrap) }
			for group := range strings.SplitSeq(d.checks, ",") {
				if !complains(t, group, mk) {
					t.Errorf("no check of %q has complained", group)
				}
			}
		})
	}
}

// complains runs the checks whose names contain group until one fails.
func complains(t *testing.T, group string, mk participanttest.Make) bool {
	t.Helper()
	for _, c := range participanttest.Checks() {
		if strings.Contains(c.Name, group) && observe(t, c, mk, false).Failed() {
			return true
		}
	}
	return false
}

// noFailFiles keeps rapid from writing files about failures that are wanted.
func noFailFiles(t *testing.T) {
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s"} {
		old := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, old) })
	}
}
