package http

import (
	"context"
	"errors"
	"fmt"
	nethttp "net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
)

// Options of a Manager.
type Options struct {
	// Name is the participant's; it is part of every key.
	Name string
	// URL is the service's base: try, confirm and cancel are paths below it.
	URL string
	// Secret signs every call.
	Secret Secret
	// NewIncarnation gives an existing journal a new incarnation: for one that
	// was restored from a backup (P14). An operator must then accept it.
	NewIncarnation bool
	// Logger; nil is hclog.Default().
	Logger hclog.Logger
	// Fatal is called, once, with the error after which nothing more may be
	// read from or written to the journal (P15). nil logs it and ends the process.
	Fatal func(error)

	// sync lets tests get between a write and its sync.
	sync func(sync func() error) error
	// abandonAfter is for tests, which cannot wait as long.
	abandonAfter time.Duration
}

// Validate reports what is missing or cannot be.
func (o Options) Validate() error {
	if err := fsm.CheckParticipant("Name", o.Name); err != nil {
		return err
	}
	if _, err := checkURL(o.URL); err != nil {
		return fmt.Errorf("URL: %w", err)
	}
	if o.Secret.key == nil {
		return errors.New("Secret: must be set (see NewSecret)")
	}
	return nil
}

// Manager is the participant.ResourceManager of a service behind HTTP, with its
// journal in one file. Make it with Open and end it with Close.
type Manager struct {
	name   string
	url    *url.URL
	secret Secret
	log    hclog.Logger
	client *nethttp.Client
	file   *durable.File
	ids    durable.Serial
	meters *meters

	abandonAfter time.Duration
	stop         context.CancelFunc
	sweeping     sync.WaitGroup
	closeOnce    sync.Once
	closeErr     error

	mu    sync.Mutex // guards all below
	held  map[string]participant.Held
	opens map[string]*watched
}

var _ participant.ResourceManager = (*Manager)(nil)

// Open opens the journal at path, and makes it if there is none. Errors:
// durable.ErrInUse; a *durable.CorruptError, of which Options.Fatal is told as
// well; what Validate says; anything the file system says.
func Open(path string, o Options) (*Manager, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	u, err := checkURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = hclog.Default()
	}
	m := &Manager{
		name: o.Name, url: u, secret: o.Secret, log: o.Logger, client: newClient(), meters: newMeters(),
		held: map[string]participant.Held{}, opens: map[string]*watched{}, abandonAfter: abandonAfter,
	}
	if o.abandonAfter > 0 {
		m.abandonAfter = o.abandonAfter
	}
	m.file, err = durable.Open(path, durable.Options{
		Kind: "http", CheckRecord: checkRecord, Trim: trim, NewIncarnation: o.NewIncarnation,
		Logger: o.Logger, Fatal: o.Fatal, Sync: o.sync, SyncSeconds: m.meters.sync,
	})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := m.restore(); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), m.file.Close())
	}
	life, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.sweeping.Go(func() { m.sweep(life) })
	return m, nil
}

// restore reads which branches are held, and which reservations are open.
func (m *Manager) restore() error {
	return m.file.View(func(p *durable.Pages) error {
		return p.EachRecord(func(id string, j durable.Record) error {
			r, err := recordOf(id, j)
			if err != nil {
				return p.CorruptRecord(id, err)
			}
			m.note(id, r)
			return nil
		})
	})
}

// note takes in what is durable of id.
func (m *Manager) note(id string, r record) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := r.entry.Held; h == nil {
		delete(m.held, id)
	} else {
		since := now
		if before, was := m.held[id]; was {
			since = before.Since
		}
		ref := participant.Ref{ID: id, Attempt: h.Attempt, Digest: h.Digest}
		m.held[id] = participant.Held{Ref: ref, Priority: h.Priority, Since: since}
	}
	if len(r.open) == 0 {
		delete(m.opens, id)
		return
	}
	w := m.opens[id]
	if w == nil {
		w = &watched{}
		m.opens[id] = w
	}
	w.due, w.count = now.Add(m.abandonAfter), len(r.open)
}

// change loads the record of id, lets f judge and change it, and stores it if f
// says so, all in one durable write. An error of f changes nothing.
func (m *Manager) change(ctx context.Context, id string, f func(r *record, floor rpc.Attempt) (store bool, err error)) error {
	var r record
	stored := false
	return m.file.Submit(ctx, func(p *durable.Pages) error {
		j, err := p.Record(id)
		if err != nil {
			return err
		}
		if r, err = recordOf(id, j); err != nil {
			return p.CorruptRecord(id, err)
		}
		binding, err := p.Binding()
		if err != nil {
			return err
		}
		store, err := f(&r, binding.Floor)
		if err != nil || !store {
			return err
		}
		stored = true
		return p.PutRecord(id, r.journal())
	}, func() {
		if stored {
			m.note(id, r)
		}
	})
}

// Identity is what the journal knows of itself.
func (m *Manager) Identity(ctx context.Context) (participant.Identity, error) {
	return m.file.Identity(ctx)
}

// Bind makes a new Binding durable.
func (m *Manager) Bind(ctx context.Context, b participant.Binding) error { return m.file.Bind(ctx, b) }

// Held lists every prepared branch that is not settled, the oldest attempt first.
func (m *Manager) Held(context.Context) ([]participant.Held, error) {
	if err := m.file.Failure(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	held := make([]participant.Held, 0, len(m.held))
	for _, h := range m.held {
		held = append(held, h)
	}
	slices.SortFunc(held, func(a, b participant.Held) int { return a.Attempt.Compare(b.Attempt) })
	return held, nil
}

// open is how many reservations are open.
func (m *Manager) open() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.opens {
		n += w.count
	}
	return n
}

// Finished lists up to limit finished references.
func (m *Manager) Finished(ctx context.Context, limit int) ([]participant.Ref, error) {
	return m.file.Finished(ctx, limit)
}

// Forget drops finished references below floor and raises the floor, in one write.
func (m *Manager) Forget(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	return m.file.Forget(ctx, floor, refs)
}

// Close ends what the Manager does by itself and closes the journal. Prepared
// branches stay prepared, and open reservations are cancelled after the next Open.
func (m *Manager) Close() error {
	m.closeOnce.Do(func() {
		m.stop()
		m.sweeping.Wait()
		m.client.CloseIdleConnections()
		m.closeErr = m.file.Close()
	})
	return m.closeErr
}
