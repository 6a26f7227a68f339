package kv

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Options of a Store. The zero value is the standard KV participant.
type Options struct {
	// Handler is the work of a branch; nil is Operations.
	Handler Handler
	// Name is the participant's: reads that are meant for another one are
	// refused (P14). Empty: none are.
	Name string
	// Kind is what Identity says; empty is "kv".
	Kind string
	// NewIncarnation gives existing data a new incarnation: for data that were
	// restored from a backup (P14). An operator must then accept it.
	NewIncarnation bool
	// Logger is used by the default Fatal; nil is hclog.Default().
	Logger hclog.Logger
	// Fatal is called, once, with a *CorruptError or *WriteError after which
	// nothing more may be read from or written to the file (P15). nil logs it
	// and ends the process with status 1. One that returns leaves a Store
	// whose every method fails with that error.
	Fatal func(error)
	// Sync, if set, makes every durable write: it may delay it, or fail it before
	// or after it is made. Its error is final, like one of the disk.
	Sync func(sync func() error) error

	// openFile lets tests get at the file below bbolt.
	openFile func(string, int, os.FileMode) (*os.File, error)
}

func (o Options) withDefaults() Options {
	if o.Handler == nil {
		o.Handler = Operations
	}
	if o.Kind == "" {
		o.Kind = "kv"
	}
	if o.Logger == nil {
		o.Logger = hclog.Default()
	}
	if o.Fatal == nil {
		logger := o.Logger
		o.Fatal = func(err error) {
			logger.Error("the store cannot go on", "error", err)
			os.Exit(1)
		}
	}
	if o.Sync == nil {
		o.Sync = func(sync func() error) error { return sync() }
	}
	return o
}

// Store is an embedded key-value participant: a participant.ResourceManager
// and a pb.KVServer over one bbolt file. It may be used concurrently.
type Store struct {
	pb.UnimplementedKVServer

	path      string
	options   Options
	db        *bbolt.DB
	locks     *lockTable
	committer *committer
	preparing serial
	meters    *meters

	failOnce sync.Once
	failed   atomic.Pointer[error]

	closeOnce sync.Once
	closeErr  error

	// mu guards what the committer changes after a sync and others read.
	mu          sync.Mutex
	held        map[string]*branch
	incarnation string
	binding     participant.Binding

	// finishedMu guards where the next Finished begins.
	finishedMu    sync.Mutex
	finishedAfter string
}

var (
	_ participant.ResourceManager = (*Store)(nil)
	_ pb.KVServer                 = (*Store)(nil)
)

// Stats are counters since Open, and the locks of this moment.
type Stats struct {
	// Writes are durable changes (votes, acknowledgements, forgetting, the
	// fence); Syncs are the bbolt transactions that made them durable. Their
	// quotient is what group commit saves.
	Writes, Syncs uint64
	// Locks are pairs of branch and key, of branches prepared or executing.
	Locks int
	// Held are prepared branches that are not settled.
	Held int
}

// Stats of the store.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	held := len(s.held)
	s.mu.Unlock()
	return Stats{Writes: s.committer.writes.Load(), Syncs: s.committer.syncs.Load(), Locks: s.Locks(), Held: held}
}

// Locks is how many locks are held now: pairs of branch and key.
func (s *Store) Locks() int { return s.locks.held() }

// Path is the file.
func (s *Store) Path() string { return s.path }

// Identity is what the data know of themselves.
func (s *Store) Identity(context.Context) (participant.Identity, error) {
	if err := s.failure(); err != nil {
		return participant.Identity{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return participant.Identity{Kind: s.options.Kind, Incarnation: s.incarnation, Binding: s.binding}, nil
}

// Bind makes a new Binding durable. A floor that Forget has raised meanwhile stays.
func (s *Store) Bind(ctx context.Context, b participant.Binding) error {
	next := b
	apply := func(p *pages) error {
		old, err := p.binding()
		if err != nil {
			return err
		}
		if next.Floor.Less(old.Floor) {
			next.Floor = old.Floor
		}
		if next == old {
			return nil
		}
		return p.putBinding(next)
	}
	failpoint.Hit("participant.fence.write.before")
	err := s.committer.submit(ctx, apply, func() { s.rebind(next) })
	failpoint.Hit("participant.fence.write.after")
	return err
}

func (s *Store) rebind(b participant.Binding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.binding = b
}

func (s *Store) bound() participant.Binding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.binding
}

// Close ends all waiting, makes durable what is queued, and closes the file.
// Prepared branches stay prepared.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.locks.close()
		close(s.committer.closing)
		<-s.committer.done
		if err := s.db.Close(); err != nil {
			s.closeErr = errors.Join(errors.New("kv: closing "+s.path), err)
		}
	})
	return s.closeErr
}
