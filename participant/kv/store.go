package kv

import (
	"cmp"
	"context"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Options of a Store. The zero value is the standard KV participant.
type Options struct {
	// Handler is the work of a branch; nil is Operations.
	Handler Handler
	// Name is the participant's: reads that are meant for another one are
	// refused (P14). Empty: none are.
	Name string
	// Kind is what Identity says; empty is "kv", or with a Handler "service":
	// of a participant of kind kv the nodes refuse payloads that are no operations.
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
	// or after it is made. Its error is final, like one of the disk. It may be called
	// while another call runs.
	Sync func(sync func() error) error
	// LogBytes is durable.Options.LogBytes.
	LogBytes int64

	// openFile lets tests get at the file below bbolt.
	openFile func(string, int, os.FileMode) (*os.File, error)
}

func (o Options) withDefaults() Options {
	kind := "service"
	if o.Handler == nil {
		kind, o.Handler = "kv", Operations
	}
	o.Kind = cmp.Or(o.Kind, kind)
	return o
}

// Store is an embedded key-value participant: a participant.ResourceManager
// and a pb.KVServer over one bbolt file. It may be used concurrently.
type Store struct {
	pb.UnimplementedKVServer

	options   Options
	file      *durable.File
	locks     *lockTable
	preparing durable.Serial
	meters    *meters

	closeOnce sync.Once
	closeErr  error

	// mu guards what the committer changes after a sync and others read.
	mu   sync.Mutex
	held map[string]*branch
}

var (
	_ participant.OnePhase = (*Store)(nil)
	_ pb.KVServer          = (*Store)(nil)
)

// Stats are counters since Open, and the locks of this moment.
type Stats struct {
	// Writes are durable changes (votes, acknowledgements, forgetting, the
	// fence); Syncs are the batches that made them durable. Their
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
	return Stats{Writes: s.file.Writes(), Syncs: s.file.Syncs(), Locks: s.Locks(), Held: held}
}

// Locks is how many locks are held now: pairs of branch and key.
func (s *Store) Locks() int { return s.locks.held() }

// Path is the file.
func (s *Store) Path() string { return s.file.Path() }

// Identity is what the data know of themselves.
func (s *Store) Identity(ctx context.Context) (participant.Identity, error) {
	return s.file.Identity(ctx)
}

// Bind makes a new Binding durable. A floor that Forget has raised meanwhile stays.
func (s *Store) Bind(ctx context.Context, b participant.Binding) error { return s.file.Bind(ctx, b) }

// Finished lists up to limit finished references.
func (s *Store) Finished(ctx context.Context, limit int) ([]participant.Ref, error) {
	return s.file.Finished(ctx, limit)
}

// Forget drops finished references below floor and raises the floor, in one write.
func (s *Store) Forget(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	return s.file.Forget(ctx, floor, refs)
}

// view runs f over one point in time. What it sees may not be synced yet (I2).
func (s *Store) view(f func(pages) error) error {
	return s.file.View(func(p *durable.Pages) error { return f(pages{p}) })
}

// submit makes one change durable; synced runs after that, in the committer.
func (s *Store) submit(ctx context.Context, apply func(pages) error, synced func()) error {
	return s.file.Submit(ctx, func(p *durable.Pages) error { return apply(pages{p}) }, synced)
}

// Close ends all waiting, makes durable what is queued, and closes the file.
// Prepared branches stay prepared.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.locks.close()
		s.closeErr = s.file.Close()
	})
	return s.closeErr
}
