package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

const (
	// startWithin bounds every wait for servers to be there.
	startWithin = 60 * time.Second
	// askTimeout is how long one process may take to say how it is.
	askTimeout = 2 * time.Second
	// stopGrace is how long a server may take to end by itself.
	stopGrace = 5 * time.Second
	// A client has one connection for 64 callers, and at most 4.
	connections          = 4
	callersPerConnection = 64
)

// subject is one thing that is measured.
type subject struct {
	name string
	// most is the highest number of callers it takes; 0: any. only is the one
	// number that it is measured at, beside 64 callers of the others; 0: all.
	most, only int
	// long is set if a long window is measured as well, for the longest stall.
	long bool
	// one is a whole operation, under a number that is used once.
	one func(ctx context.Context, caller int, number uint64) error
	// servers are the processes that are compared: the nodes. helpers are what
	// they need beside them: participants, databases.
	servers, helpers func() []int
	// unfinished is how many operations were answered and go on; nil: none does.
	unfinished func(context.Context) (int, error)
	// logged is how many bytes the log's entries have so far; nil: not known.
	logged func(context.Context) (int, error)
	// journal can be read afterwards; nil: it is not.
	journal *journal
	// aim finds who leads, before a figure, and sound tells after it what has
	// spoilt it; nil: nobody leads, and nothing can.
	aim, sound func(context.Context) error

	numbers atomic.Uint64
}

// next runs one operation.
func (s *subject) next(ctx context.Context, caller int) error {
	return s.one(ctx, caller, s.numbers.Add(1))
}

// stand is what is started together; it has some subjects.
type stand struct {
	name  string
	start func(ctx context.Context, s *site) ([]*subject, error)
}

// stands are in the order in which they are measured: what is divided by each
// other is close to each other.
var stands = []stand{
	{"echo", startEcho}, {"raft", startRaft}, {"floor", startFloor}, {"concordat", startConcordat}, {"concordat-wal", startWAL},
	{"etcd", startEtcd}, {"postgres", startPostgres},
}

func standNames() (names []string) {
	for _, s := range stands {
		names = append(names, s.name)
	}
	return names
}

// site is where a stand is built: it starts processes, and ends them.
type site struct {
	options
	dir string
	// serverArgs are added to the command lines of nodes.
	serverArgs []string
	endings    []func() error // run in reverse
}

func newSite(o options, parent, name string) (*site, error) {
	s := &site{options: o, dir: filepath.Join(parent, name)}
	return s, os.Mkdir(s.dir, 0o700)
}

// atEnd has f run when the site is closed.
func (s *site) atEnd(f func() error) { s.endings = append(s.endings, f) }

func (s *site) close() error {
	var errs []error
	for i := len(s.endings) - 1; i >= 0; i-- {
		errs = append(errs, s.endings[i]())
	}
	s.endings = nil
	return errors.Join(errs...)
}

// role starts this program as one of its servers.
func (s *site) role(name, role string, args ...string) (*local.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return s.process(name, self, append([]string{role}, args...), nil)
}

func (s *site) process(name, program string, args, env []string) (*local.Process, error) {
	p := local.NewProcess(name, program, s.dir, args, env)
	if err := p.Start(); err != nil {
		return nil, err
	}
	s.atEnd(func() error { return p.Stop(stopGrace) })
	return p, nil
}

// until polls a condition that other processes bring about.
func until(ctx context.Context, what string, ok func(context.Context) (bool, error)) error {
	return untilEvery(ctx, 10*time.Millisecond, what, ok)
}

func untilEvery(ctx context.Context, every time.Duration, what string, ok func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last error
	for {
		done, err := ok(ctx)
		if done && err == nil {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

// pids are of processes that are not started again.
func pids(list ...*local.Process) func() []int {
	return func() (ids []int) {
		for _, p := range list {
			ids = append(ids, p.PID())
		}
		return ids
	}
}

func none() []int { return nil }
