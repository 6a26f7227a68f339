package sim

import (
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// errCrashed is what every call of the disk ends with once its process is dead.
var errCrashed = errors.New("the process is dead")

// disk is what one process writes to. The file below is real, and a write
// that returned is there after a crash; one that was under way when the
// process died is there whole or not at all, by chance, which is what bbolt
// promises of one that lost power.
type disk struct {
	mu     sync.Mutex // guards what follows
	random *rand.Rand
	dead   chan struct{} // closed at the crash
	usual  time.Duration // what a write takes at most
	slow   time.Duration // what it takes more, while the disk is slow
	fail   int           // the next so many writes fail with err
	err    error
	frozen chan struct{} // closed when the pause is over; nil: none
	writes int
	failed int
	slowed int
}

func newDisk(random *rand.Rand, usual time.Duration) *disk {
	return &disk{random: random, usual: usual, dead: make(chan struct{})}
}

// reads are the operations that write nothing.
func reading(operation string) bool { return len(operation) > 4 && operation[:4] == "read" }

// around is cluster.Config.Disk.
func (d *disk) around(_, operation string, call func() error) error {
	if reading(operation) {
		select {
		case <-d.dead:
			return errCrashed
		default:
			return call()
		}
	}
	return d.write(call)
}

// write makes one write, with what may happen to it.
func (d *disk) write(call func() error) error {
	d.mu.Lock()
	frozen, done := d.frozen, d.random.IntN(2) == 0
	wait := time.Duration(d.random.Int64N(int64(d.usual + d.slow + 1)))
	if d.slow > 0 {
		d.slowed++
	}
	var err error
	if d.fail > 0 {
		d.fail--
		d.failed++
		err = d.err
	}
	d.writes++
	d.mu.Unlock()
	if frozen != nil {
		select {
		case <-frozen:
		case <-d.dead:
			return errCrashed
		}
	}
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-d.dead: // in the middle of it: all or nothing
			if done {
				_ = call()
			}
			return errCrashed
		}
	}
	select {
	case <-d.dead:
		return errCrashed
	default:
	}
	if err != nil {
		if done && !errors.Is(err, syscall.ENOSPC) { // it may have reached the disk all the same
			_ = call()
		}
		return err
	}
	return call()
}

func (d *disk) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.dead:
	default:
		close(d.dead)
	}
}

func (d *disk) setSlow(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = by
}

// failNext makes the next write fail.
func (d *disk) failNext(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.err = 1, err
}

func (d *disk) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		d.frozen = make(chan struct{})
	}
}

func (d *disk) thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen != nil {
		close(d.frozen)
		d.frozen = nil
	}
}
