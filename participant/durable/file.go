package durable

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
)

// Bucket is one that a resource manager keeps beside the journal.
type Bucket struct {
	Name []byte
	// Check reads a value, and fails if it cannot be what was written.
	Check func(key, value []byte) error
}

// Options of a File.
type Options struct {
	// Kind is what Identity says.
	Kind string
	// Buckets are the resource manager's own.
	Buckets []Bucket
	// CheckRecord reads a record of the journal with its tail, and fails if it
	// cannot be what was written.
	CheckRecord func(id string, record []byte) error
	// Trim, if set, says what stays of a record from which finished references
	// were dropped.
	Trim func(id string, r Record) (Record, error)
	// NewIncarnation gives existing data a new incarnation: for data that were
	// restored from a backup (P14). An operator must then accept it.
	NewIncarnation bool
	// Logger is used by the default Fatal; nil is hclog.Default().
	Logger hclog.Logger
	// Fatal is called, once, with a *CorruptError or *WriteError after which
	// nothing more may be read from or written to the file (P15). nil logs it
	// and ends the process with status 1. One that returns leaves a File
	// whose every method fails with that error.
	Fatal func(error)
	// Sync, if set, makes every durable write after Open: it may delay it, or fail it before
	// or after it is made. Its error is final, like one of the disk. It may be called while
	// another call runs.
	Sync func(sync func() error) error
	// SyncSeconds, if set, observes every sync.
	SyncSeconds prometheus.Observer
	// LogBytes is the length of each half of the log, in bytes: when one is full, what
	// it has is written to the file beside the next batches, and a batch that is larger
	// at once. 0 is 4 MiB; others are rounded up to a multiple of 4096, 8192 at least.
	LogBytes int64
	// OpenFile, if set, opens the file below bbolt, and the log.
	OpenFile func(string, int, os.FileMode) (*os.File, error)
}

func (o Options) withDefaults() Options {
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
	if o.LogBytes == 0 {
		o.LogBytes = usualLogBytes()
	}
	o.LogBytes = max((o.LogBytes+logHeader-1)/logHeader, 2) * logHeader
	if o.Sync == nil {
		o.Sync = func(sync func() error) error { return sync() }
	}
	return o
}

// File is the data of one participant with their journal. It may be used concurrently.
type File struct {
	path      string
	options   Options
	counted   [][]byte // the buckets that have a census
	db        *bbolt.DB
	over      atomic.Pointer[overlay]
	committer *committer

	// The committer's: the log, once there is one, and the census of everything.
	log    *batchLog
	counts []census

	failOnce sync.Once
	failed   atomic.Pointer[error]

	closeOnce sync.Once
	closeErr  error

	// mu guards what the committer changes after a sync and others read.
	mu          sync.Mutex
	incarnation string
	binding     participant.Binding

	// finishedMu guards where the next Finished begins.
	finishedMu    sync.Mutex
	finishedAfter string
}

// Path is the file.
func (s *File) Path() string { return s.path }

// Writes are the durable changes since Open; Syncs are the batches
// that made them durable. Their quotient is what group commit saves.
func (s *File) Writes() uint64 { return s.committer.writes.Load() }

// Syncs is how often the file was synced since Open.
func (s *File) Syncs() uint64 { return s.committer.syncs.Load() }

// Queued is how many writes wait for the next sync.
func (s *File) Queued() int { return len(s.committer.queue) }

// Bytes is the size of the file; 0 if it cannot be asked.
func (s *File) Bytes() int64 {
	info, err := os.Stat(s.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Submit makes one change durable, in a batch with others. apply decides, then
// writes (I2): an error that is not final means that it has written nothing.
// synced, if it is not nil, runs after the sync and before Submit returns, in
// the order of the writes. Once the change is queued, ctx has no say any more;
// ErrNotQueued says that it was not.
func (s *File) Submit(ctx context.Context, apply func(*Pages) error, synced func()) error {
	return s.committer.submit(ctx, apply, synced)
}

// Identity is what the data know of themselves.
func (s *File) Identity(context.Context) (participant.Identity, error) {
	if err := s.Failure(); err != nil {
		return participant.Identity{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return participant.Identity{Kind: s.options.Kind, Incarnation: s.incarnation, Binding: s.binding}, nil
}

// Bind makes a new Binding durable. A floor that Forget has raised meanwhile stays.
func (s *File) Bind(ctx context.Context, b participant.Binding) error {
	next := b
	apply := func(p *Pages) error {
		old, err := p.Binding()
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
	err := s.Submit(ctx, apply, func() { s.rebind(next) })
	failpoint.Hit("participant.fence.write.after")
	return err
}

func (s *File) rebind(b participant.Binding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.binding = b
}

// Bound is the binding that is durable.
func (s *File) Bound() participant.Binding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.binding
}

// Close makes durable what is queued and closes the file.
func (s *File) Close() error {
	s.closeOnce.Do(func() {
		close(s.committer.closing)
		<-s.committer.done
		if err := errors.Join(s.closeLog(), s.db.Close()); err != nil {
			s.closeErr = errors.Join(errors.New("closing "+s.path), err)
		}
	})
	return s.closeErr
}

// Fail stops the file for good, as the first error of a write would (P15).
func (s *File) Fail(err error) { _ = s.check(&WriteError{File: s.path, Err: err}) }
