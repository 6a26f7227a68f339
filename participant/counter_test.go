package participant_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// counter is a complete resource manager: it keeps counts by key in a bbolt
// file. A payload is "add KEY", or "refuse KEY" for a condition that never
// holds. It shows what every resource manager does: one write holds the data,
// the locks and the Entry of the id, and what the Entry's methods say decides.
type counter struct {
	db *bbolt.DB

	mu    sync.Mutex // guards the fault that tests inject, see write
	fault fault
}

var (
	bucketMeta    = []byte("meta")    // identity -> participant.Identity
	bucketEntries = []byte("entries") // id -> record
	bucketCounts  = []byte("counts")  // key -> committed count
	bucketLocks   = []byte("locks")   // key -> id of the branch that holds it
	keyIdentity   = []byte("identity")
)

// record is what is kept of one id.
type record struct {
	Entry participant.Entry
	Key   string // what the held branch adds to
}

func openCounter(path string) (*counter, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	c := &counter{db: db}
	return c, db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketEntries, bucketCounts, bucketLocks} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if tx.Bucket(bucketMeta).Get(keyIdentity) != nil {
			return nil
		}
		return put(tx, bucketMeta, keyIdentity, participant.Identity{Kind: "counter", Incarnation: rand.Text()})
	})
}

func (c *counter) Identity(context.Context) (id participant.Identity, err error) {
	err = c.read(func(tx *bbolt.Tx) error { return get(tx, bucketMeta, keyIdentity, &id) })
	return id, err
}

func (c *counter) Bind(_ context.Context, b participant.Binding) error {
	return c.write(func(tx *bbolt.Tx) (bool, error) { return true, putBinding(tx, b) })
}

func (c *counter) Prepare(_ context.Context, w participant.Work) (vote participant.Vote, err error) {
	err = c.write(func(tx *bbolt.Tx) (changed bool, err error) {
		r, id, err := load(tx, w.ID)
		if err != nil {
			return false, err
		}
		v := r.Entry.OnPrepare(w.Ref, id.Binding.Floor)
		if v.Step == participant.Refuse {
			vote = participant.Aborted(v.Code, v.Reason)
			if !v.Store {
				return false, nil
			}
			return true, store(tx, w.ID, record{v.Entry, r.Key})
		}
		if v.Step == participant.Execute {
			if r.Key, vote, err = execute(tx, w); err != nil || vote.Kind != pb.Vote_VOTE_PREPARED {
				return false, err
			}
			return true, store(tx, w.ID, record{r.Entry.Hold(w, vote.Result), r.Key})
		}
		vote = participant.Prepared(v.Entry.Held.Result) // Repeat or TakeOver
		if !v.Store {
			return false, nil
		}
		return true, store(tx, w.ID, record{v.Entry, r.Key})
	})
	return vote, err
}

// execute locks the key and checks the condition; the count changes at the commit.
func execute(tx *bbolt.Tx, w participant.Work) (key string, _ participant.Vote, err error) {
	op, key, ok := strings.Cut(string(w.Payload), " ")
	switch {
	case !ok || op != "add" && op != "refuse":
		return "", participant.Aborted(pb.Reason_INVALID, "want add KEY or refuse KEY"), nil
	case op == "refuse":
		return "", participant.Aborted(pb.Reason_CONDITION, key+" is refused"), nil
	case tx.Bucket(bucketLocks).Get([]byte(key)) != nil:
		return "", participant.Aborted(pb.Reason_CONFLICT, key+" is locked"), nil
	}
	var n int64
	if err := get(tx, bucketCounts, []byte(key), &n); err != nil {
		return "", participant.Vote{}, err
	}
	return key, participant.Prepared(fmt.Append(nil, n+1)), tx.Bucket(bucketLocks).Put([]byte(key), []byte(w.ID))
}

// CommitOnePhase adds at once, and so never holds a lock.
func (c *counter) CommitOnePhase(_ context.Context, w participant.Work) (vote participant.Vote, err error) {
	err = c.write(func(tx *bbolt.Tx) (changed bool, err error) {
		r, id, err := load(tx, w.ID)
		if err != nil {
			return false, err
		}
		v := r.Entry.OnCommitOnePhase(w.Ref, id.Binding.Floor)
		switch v.Step {
		case participant.WaitOnce:
			return false, participant.MustWait(w.Ref, v.Message)
		case participant.DoneOnce, participant.RefuseOnce:
			vote = v.Vote
			return false, nil
		}
		key, done, err := execute(tx, w)
		if vote = done; err != nil || vote.Kind != pb.Vote_VOTE_PREPARED {
			return false, err
		}
		vote.Kind = pb.Vote_VOTE_COMMITTED
		return true, errors.Join(increment(tx, key), tx.Bucket(bucketLocks).Delete([]byte(key)),
			store(tx, w.ID, record{Entry: v.Entry.Once(w.Ref, vote.Result)}))
	})
	return vote, err
}

func (c *counter) Refuse(_ context.Context, ref participant.Ref, why participant.Vote) (participant.Settlement, error) {
	return c.settle(ref, func(e participant.Entry, ref participant.Ref) participant.SettleVerdict {
		return e.OnRefuse(ref, why)
	}, func(*bbolt.Tx, string) error { return nil })
}

func increment(tx *bbolt.Tx, key string) error {
	var n int64
	if err := get(tx, bucketCounts, []byte(key), &n); err != nil {
		return err
	}
	return put(tx, bucketCounts, []byte(key), n+1)
}

func (c *counter) Commit(_ context.Context, ref participant.Ref) (participant.Settlement, error) {
	return c.settle(ref, participant.Entry.OnCommit, increment)
}

func (c *counter) Rollback(_ context.Context, ref participant.Ref) (participant.Settlement, error) {
	return c.settle(ref, participant.Entry.OnRollback, func(*bbolt.Tx, string) error { return nil })
}

func (c *counter) settle(ref participant.Ref, judge func(participant.Entry, participant.Ref) participant.SettleVerdict,
	apply func(tx *bbolt.Tx, key string) error,
) (st participant.Settlement, err error) {
	err = c.write(func(tx *bbolt.Tx) (bool, error) {
		r, _, err := load(tx, ref.ID)
		if err != nil {
			return false, err
		}
		v := judge(r.Entry, ref)
		st = participant.Settlement{Settled: v.Settled, Message: v.Message}
		switch v.Step {
		case participant.Apply:
			if err := errors.Join(apply(tx, r.Key), tx.Bucket(bucketLocks).Delete([]byte(r.Key))); err != nil {
				return false, err
			}
			return true, store(tx, ref.ID, record{Entry: v.Entry})
		case participant.Tombstone:
			return true, store(tx, ref.ID, record{Entry: v.Entry})
		}
		return false, nil
	})
	return st, err
}

func (c *counter) Held(context.Context) (held []participant.Held, err error) {
	err = c.entries(func(id string, e participant.Entry) {
		if h := e.Held; h != nil {
			ref := participant.Ref{ID: id, Attempt: h.Attempt, Digest: h.Digest}
			held = append(held, participant.Held{Ref: ref, Priority: h.Priority})
		}
	})
	return held, err
}

func (c *counter) Finished(_ context.Context, limit int) (refs []participant.Ref, err error) {
	err = c.entries(func(_ string, e participant.Entry) { refs = append(refs, e.Finished()...) })
	return refs[:min(limit, len(refs))], err
}

func (c *counter) Forget(_ context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	return c.write(func(tx *bbolt.Tx) (bool, error) {
		for _, ref := range refs {
			r, _, err := load(tx, ref.ID)
			if err == nil {
				r.Entry = r.Entry.Forget(floor, refs)
				err = store(tx, ref.ID, r)
			}
			if err != nil {
				return false, err
			}
		}
		var id participant.Identity
		if err := get(tx, bucketMeta, keyIdentity, &id); err != nil {
			return false, err
		}
		id.Binding.Floor = floor
		return true, putBinding(tx, id.Binding)
	})
}

func (c *counter) entries(see func(id string, e participant.Entry)) error {
	return c.read(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketEntries).ForEach(func(k, v []byte) error {
			var r record
			err := json.Unmarshal(v, &r)
			see(string(k), r.Entry)
			return err
		})
	})
}

func load(tx *bbolt.Tx, txn string) (r record, id participant.Identity, err error) {
	err = errors.Join(get(tx, bucketEntries, []byte(txn), &r), get(tx, bucketMeta, keyIdentity, &id))
	return r, id, err
}

func store(tx *bbolt.Tx, txn string, r record) error {
	if r.Entry.IsZero() {
		return tx.Bucket(bucketEntries).Delete([]byte(txn))
	}
	return put(tx, bucketEntries, []byte(txn), r)
}

func putBinding(tx *bbolt.Tx, b participant.Binding) error {
	var id participant.Identity
	if err := get(tx, bucketMeta, keyIdentity, &id); err != nil {
		return err
	}
	id.Binding = b
	return put(tx, bucketMeta, keyIdentity, id)
}

func get(tx *bbolt.Tx, bucket, key []byte, v any) error {
	if raw := tx.Bucket(bucket).Get(key); raw != nil {
		return json.Unmarshal(raw, v)
	}
	return nil
}

func put(tx *bbolt.Tx, bucket, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(key, raw)
}
