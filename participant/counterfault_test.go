package participant_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
)

// fault crashes a counter at a write: from then on it is dead.
type fault struct {
	left int // writes until then; 0 is never
	when participanttest.When
	dead bool
}

var (
	errDead      = errors.New("the counter is dead")
	errUnchanged = errors.New("nothing to write") // gives the write transaction up
)

// write is one durable write, or none if f says that it changed nothing.
func (c *counter) write(f func(tx *bbolt.Tx) (changed bool, err error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault.dead {
		return errDead
	}
	err := c.db.Update(func(tx *bbolt.Tx) error {
		changed, err := f(tx)
		switch {
		case err != nil:
			return err
		case !changed:
			return errUnchanged
		}
		if c.fault.left > 0 {
			c.fault.left--
			c.fault.dead = c.fault.left == 0
		}
		if c.fault.dead && c.fault.when == participanttest.Before {
			return errDead
		}
		return nil
	})
	switch {
	case errors.Is(err, errUnchanged):
		return nil
	case err == nil && c.fault.dead:
		return errDead
	}
	return err
}

func (c *counter) read(f func(tx *bbolt.Tx) error) error {
	c.mu.Lock()
	dead := c.fault.dead
	c.mu.Unlock()
	if dead {
		return errDead
	}
	return c.db.View(f)
}

func (c *counter) crashAtWrite(n int, when participanttest.When) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.fault.dead {
		c.fault = fault{left: n, when: when}
	}
}

// kill closes the file. Every write was synced when it returned, so this is
// what a kill of the process leaves.
func (c *counter) kill() error {
	c.mu.Lock()
	c.fault.dead = true
	c.mu.Unlock()
	return c.db.Close()
}

// count reads a committed count.
func (c *counter) count(key string) (n int64, err error) {
	err = c.db.View(func(tx *bbolt.Tx) error { return get(tx, bucketCounts, []byte(key), &n) })
	return n, err
}

// counterHarness is a counter for the suite; wrap may put something around it.
func counterHarness(t testing.TB, wrap func(c *counter) participant.ResourceManager) participanttest.Harness {
	path := filepath.Join(t.TempDir(), "counter.db")
	var c *counter
	crash := func() error {
		if c == nil {
			return nil
		}
		return c.kill()
	}
	t.Cleanup(func() {
		if err := crash(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return participanttest.Harness{
		Open: func(context.Context) (participant.ResourceManager, error) {
			var err error
			if c, err = openCounter(path); err != nil {
				return nil, err
			}
			return wrap(c), nil
		},
		Crash:        crash,
		Work:         func(key string) []byte { return []byte("add " + key) },
		Refused:      func(key string) []byte { return []byte("refuse " + key) },
		Effect:       func(_ context.Context, key string) (int64, error) { return c.count(key) },
		CrashAtWrite: func(n int, when participanttest.When) { c.crashAtWrite(n, when) },
		Exclusive:    true,
	}
}

func TestConformance(t *testing.T) {
	participanttest.Run(t, func(t testing.TB) participanttest.Harness {
		return counterHarness(t, func(c *counter) participant.ResourceManager { return c })
	})
}
