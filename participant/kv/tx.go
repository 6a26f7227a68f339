package kv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/rpc/strictjson"
)

// Limits of what a branch may make of the store.
const (
	// MaxStoredBytes is the largest value in the store, by kvop.Value.Size. A
	// list grows by appending, and every append writes all of it.
	MaxStoredBytes = 256 << 10
	// MaxBranchKeys is how many keys one branch may touch; every one is a lock.
	MaxBranchKeys = 4096
	// MaxBranchBytes is how much one branch may write, all keys and values together.
	MaxBranchBytes = 4 << 20
)

// errTxEnded: a handler kept its Tx for later, when nothing would come of it.
var errTxEnded = errors.New("kv: the branch's handler has returned, its Tx has ended")

// Handler is the work of one branch. It runs once for a Prepare, under locks
// that are taken as it touches keys and held until the decision. What it
// changes through tx becomes visible if the transaction commits, and not
// before. The result, at most 64 KiB, comes back with the answer.
//
// An error undoes everything. Abort (and every error of tx) makes the vote
// ABORTED with its reason, participant.Transient asks the runtime to try again,
// anything else votes ABORTED(FAILED). A handler has no other effects than
// those through tx: nothing would undo them.
type Handler func(tx *Tx, payload []byte) (result []byte, err error)

// AbortError is the error of a Handler that votes ABORTED.
type AbortError struct {
	Code    pb.Reason_Code
	Message string
}

func (e *AbortError) Error() string { return e.Code.String() + ": " + e.Message }

// Abort makes the error for a condition that does not hold: the vote is
// ABORTED(CONDITION) with this message, of which 512 bytes are kept.
func Abort(format string, args ...any) error {
	return &AbortError{Code: pb.Reason_CONDITION, Message: fmt.Sprintf(format, args...)}
}

// Tx is the view that a branch has of the store: committed values and its own
// changes. It is for the one goroutine of its Handler, until that returns.
// After the first error every method returns that error, and the vote is
// ABORTED whatever the handler makes of it.
type Tx struct {
	ctx   context.Context
	store *Store
	owner *owner
	cells map[string]*cell
	bytes int
	err   error
}

// cell is one key as the branch sees it; no value: it does not exist.
type cell struct {
	value kvop.Value
	mode  mode // how it is locked
	dirty bool
}

// Context ends with the prepare budget.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Lock locks keys for writing, in sorted order and ahead of their use. That is
// never needed, but a branch that knows its keys meets fewer conflicts so, and
// reads them in one go.
func (tx *Tx) Lock(keys ...string) error {
	modes := make(map[string]mode, len(keys))
	for _, key := range keys {
		modes[key] = exclusive
	}
	return tx.lock(modes)
}

// lock takes locks in sorted order and then reads what is not known yet at
// one point in time.
func (tx *Tx) lock(modes map[string]mode) error {
	if tx.err != nil {
		return tx.err
	}
	var unknown []string
	for _, key := range slices.Sorted(maps.Keys(modes)) {
		if err := kvop.CheckKey("key", key); err != nil {
			return tx.fail(&AbortError{pb.Reason_INVALID, err.Error()})
		}
		if tx.cells[key] == nil {
			unknown = append(unknown, key)
		}
		if len(tx.cells)+len(unknown) > MaxBranchKeys {
			return tx.fail(&AbortError{pb.Reason_INVALID, fmt.Sprintf("the branch touches more than %d keys", MaxBranchKeys)})
		}
		if err := tx.store.locks.acquire(tx.ctx, tx.owner, key, modes[key]); err != nil {
			return tx.fail(err)
		}
	}
	if err := tx.fetch(unknown); err != nil {
		return err
	}
	for key, m := range modes {
		c := tx.cells[key]
		c.mode = max(c.mode, m)
	}
	return nil
}

// fetch reads keys that are locked: whoever wrote them before has synced (I1),
// so a snapshot opened now has their committed values.
func (tx *Tx) fetch(keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	err := tx.store.view(func(p pages) error {
		for _, key := range keys {
			v, _, err := p.value(key)
			if err != nil {
				return err
			}
			tx.cells[key] = &cell{value: v}
		}
		return nil
	})
	if err != nil {
		return tx.fail(err)
	}
	return nil
}

func (tx *Tx) cell(key string, m mode) (*cell, error) {
	if c := tx.cells[key]; c != nil && c.mode >= m && tx.err == nil {
		return c, nil
	}
	if err := tx.lock(map[string]mode{key: m}); err != nil {
		return nil, err
	}
	return tx.cells[key], nil
}

// Get is the value of key; false if it does not exist.
func (tx *Tx) Get(key string) (kvop.Value, bool, error) {
	c, err := tx.cell(key, shared)
	if err != nil {
		return kvop.Value{}, false, err
	}
	return c.value, c.value.Type() != 0, nil
}

// Put sets key to v.
func (tx *Tx) Put(key string, v kvop.Value) error {
	c, err := tx.cell(key, exclusive)
	if err != nil {
		return err
	}
	if err := kvop.CheckValue("the value of key "+quoteKey(key), v, MaxStoredBytes); err != nil {
		return tx.fail(Abort("%v", err))
	}
	return tx.set(c, key, v)
}

// Delete removes key, if it exists.
func (tx *Tx) Delete(key string) error {
	c, err := tx.cell(key, exclusive)
	if err != nil {
		return err
	}
	return tx.set(c, key, kvop.Value{})
}

// Append adds elements to the list at key; one that does not exist is made.
func (tx *Tx) Append(key string, elements ...kvop.Value) error {
	c, err := tx.cell(key, exclusive)
	if err != nil {
		return err
	}
	if t := c.value.Type(); t != 0 && t != kvop.List {
		return tx.fail(Abort("append to key %s: found %s, which is no list", quoteKey(key), describe(c.value)))
	}
	v := c.value.With(elements...)
	if err := kvop.CheckValue("the list at key "+quoteKey(key), v, MaxStoredBytes); err != nil {
		return tx.fail(Abort("%v", err))
	}
	return tx.set(c, key, v)
}

// Add adds delta to the integer at key, 0 if it does not exist, and returns
// the sum. A sum below min or above max (nil: no bound), an overflow and a value that is no
// integer abort.
func (tx *Tx) Add(key string, delta int64, min, max *int64) (int64, error) {
	c, err := tx.cell(key, exclusive)
	if err != nil {
		return 0, err
	}
	n, ok := c.value.Number()
	if !ok && c.value.Type() != 0 {
		return 0, tx.fail(Abort("add to key %s: found %s, which is no integer", quoteKey(key), describe(c.value)))
	}
	if delta > 0 && n > math.MaxInt64-delta || delta < 0 && n < math.MinInt64-delta {
		return 0, tx.fail(Abort("add to key %s: found %d, adding %d overflows 64 bits", quoteKey(key), n, delta))
	}
	sum := n + delta
	if min != nil && sum < *min {
		return 0, tx.fail(Abort("add to key %s: found %d, adding %d gives less than the minimum %d", quoteKey(key), n, delta, *min))
	}
	if max != nil && sum > *max {
		return 0, tx.fail(Abort("add to key %s: found %d, adding %d gives more than the maximum %d", quoteKey(key), n, delta, *max))
	}
	return sum, tx.set(c, key, kvop.Number(sum))
}

func (tx *Tx) set(c *cell, key string, v kvop.Value) error {
	if c.dirty {
		tx.bytes -= len(key) + c.value.Size()
	}
	tx.bytes += len(key) + v.Size()
	if tx.bytes > MaxBranchBytes {
		return tx.fail(Abort("the branch writes more than %d bytes", MaxBranchBytes))
	}
	c.value, c.dirty = v, true
	return nil
}

func (tx *Tx) fail(err error) error {
	if tx.err == nil {
		tx.err = err
	}
	return tx.err
}

// redo are the changes, in the order of the keys.
func (tx *Tx) redo() []effect {
	var redo []effect
	for _, key := range slices.Sorted(maps.Keys(tx.cells)) {
		if c := tx.cells[key]; c.dirty {
			redo = append(redo, effect{key, c.value})
		}
	}
	return redo
}

// voteOn is the vote that err means, or an error for the runtime.
func voteOn(err error) (participant.Vote, error) {
	var (
		abort    *AbortError
		conflict *conflictError
		timeout  *lockTimeoutError
	)
	switch {
	case errors.As(err, &conflict):
		return participant.Aborted(pb.Reason_CONFLICT, conflict.Error()), nil
	case errors.As(err, &timeout):
		return participant.Aborted(pb.Reason_TIMEOUT, timeout.Error()), nil
	case errors.As(err, &abort):
		return participant.Aborted(abort.Code, abort.Message), nil
	case durable.IsFatal(err), errors.Is(err, ErrClosed), participant.IsTransient(err):
		return participant.Vote{}, err
	}
	return participant.Aborted(pb.Reason_FAILED, err.Error()), nil
}

func quoteKey(key string) string { return strictjson.Clip(strconv.Quote(key)) }

// describe is a value in a message.
func describe(v kvop.Value) string {
	if v.Type() == 0 {
		return "nothing"
	}
	if s, ok := v.Text(); ok && len(s) > 1024 {
		return strictjson.Clip(strconv.Quote(s[:1024]))
	}
	return strictjson.Clip(v.String())
}
