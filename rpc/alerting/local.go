package alerting

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	fileFormat = 1
	// maxFile is more than the alerts of one process can be.
	maxFile = 1 << 20
)

// Local is the Book of what a process judges of itself. With a file it
// remembers across a restart what it has raised and told. Raise and Resolve
// may be called from anywhere and never wait for the disk: the file is written
// by List and Told, before anything is told and after it.
type Local struct {
	path   string // empty: memory only
	log    hclog.Logger
	silent bool
	// refresh brings the details of a standing alert up to date; called without the lock.
	refresh func(*Alert)
	changed chan struct{}

	mu    sync.Mutex // guards what follows
	items map[localKey]*Item
	dirty bool

	failing bool // the file could not be written; of the one goroutine that writes
}

type localKey struct{ kind, participant string }

// LocalConfig says what a Local book is. The zero value keeps everything in
// memory and drops what is over.
type LocalConfig struct {
	// Path is the file; empty: memory only.
	Path string
	// Tells: a Notifier reads the book, so what is over waits to be told.
	Tells bool
	// Refresh brings the details of a standing alert up to date before it is
	// shown or told; may be nil. It must not call the book.
	Refresh func(*Alert)
	Logger  hclog.Logger
}

// OpenLocal makes a book and takes over what the file says. A file that cannot
// be read costs a resolve, which the receiver makes up for when the alert
// expires there: it is logged, and the book begins empty.
func OpenLocal(cfg LocalConfig) *Local {
	b := &Local{
		log: cfg.Logger, silent: !cfg.Tells, refresh: cfg.Refresh,
		changed: make(chan struct{}, 1), items: map[localKey]*Item{},
	}
	if b.log == nil {
		b.log = hclog.NewNullLogger()
	}
	if cfg.Path == "" || b.silent { // without a receiver there is nothing to go on with
		return b
	}
	b.path = cfg.Path
	items, err := load(b.path)
	if err != nil {
		b.log.Warn("what was alerted about before cannot be read; it expires at the receiver", "file", b.path, "error", err)
	}
	for _, i := range items {
		b.items[localKey{i.Kind, i.Participant}] = &i
	}
	return b
}

// Raise makes an alert stand, from now on if it did not. It reports whether
// it did not.
func (b *Local) Raise(a Alert) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := localKey{a.Kind, a.Participant}
	if old := b.items[key]; old != nil && old.Standing() {
		a.StartsAt, a.Cluster, a.EndsAt = old.StartsAt, old.Cluster, time.Time{}
		old.Alert = a
		return false
	}
	// In milliseconds, as it is kept and travels.
	a.StartsAt, a.EndsAt = time.Now().UTC().Truncate(time.Millisecond), time.Time{}
	b.items[key] = &Item{a, Raised}
	b.touch()
	return true
}

// Resolve says that an alert is over. It reports since when it stood, if it did.
func (b *Local) Resolve(kind, participant string) (since time.Time, stood bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := localKey{kind, participant}
	i := b.items[key]
	if i == nil || !i.Standing() {
		return time.Time{}, false
	}
	since = i.StartsAt
	if b.silent {
		delete(b.items, key)
		return since, true
	}
	i.State, i.EndsAt = Over, time.Now().UTC().Truncate(time.Millisecond)
	b.touch()
	return since, true
}

// touch notes a change. Caller holds the lock.
func (b *Local) touch() {
	b.dirty = true
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Show lists the alerts in a fixed order, without writing anything.
func (b *Local) Show() []Item {
	b.mu.Lock()
	list := make([]Item, 0, len(b.items))
	for _, i := range b.items {
		list = append(list, *i)
	}
	b.mu.Unlock()
	slices.SortFunc(list, func(x, y Item) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Participant, y.Participant))
	})
	if b.refresh == nil || len(list) == 0 {
		return list
	}
	for k := range list {
		if list[k].Standing() {
			b.refresh(&list[k].Alert)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range list { // what is over shows what was known last
		if now := b.items[localKey{i.Kind, i.Participant}]; now != nil && now.StartsAt.Equal(i.StartsAt) && i.Standing() {
			now.Summary, now.Action, now.Transactions = i.Summary, i.Action, i.Transactions
			now.Count, now.Retries = i.Count, i.Retries
		}
	}
	return list
}

// List implements Book.
func (b *Local) List() []Item {
	list := b.Show()
	b.save()
	return list
}

// Changed implements Book.
func (b *Local) Changed() <-chan struct{} { return b.changed }

// Told implements Book.
func (b *Local) Told(_ context.Context, items []Item) error {
	b.mu.Lock()
	for _, i := range items {
		key := localKey{i.Kind, i.Participant}
		now := b.items[key]
		if now == nil || !now.StartsAt.Equal(i.StartsAt) {
			continue
		}
		switch {
		case i.State == Raised && now.State == Raised:
			now.State, b.dirty = Told, true
		case i.State == Over && now.State == Over:
			delete(b.items, key)
			b.dirty = true
		}
	}
	b.mu.Unlock()
	b.save()
	return nil
}

// file is what is on disk.
type file struct {
	Format int        `json:"format"`
	Alerts []fileItem `json:"alerts"`
}

type fileItem struct {
	Alert
	State State `json:"state"`
}

// save writes the file if there is something new. A disk that does not take it
// does not keep anybody from being told.
func (b *Local) save() {
	b.mu.Lock()
	content := file{Format: fileFormat}
	wanted := b.dirty && b.path != ""
	if wanted {
		for _, i := range b.items {
			content.Alerts = append(content.Alerts, fileItem{i.Alert, i.State})
		}
		b.dirty = false
	}
	b.mu.Unlock()
	if !wanted {
		return
	}
	err := write(b.path, content)
	switch {
	case err == nil:
		b.failing = false
		return
	case !b.failing:
		b.failing = true
		b.log.Warn("what was alerted about cannot be written; after a restart it is told anew", "file", b.path, "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dirty = true
}

// write puts a whole file in the place of the old one.
func write(path string, content file) error {
	raw, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	tmp, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = tmp.Write(raw)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func load(path string) ([]Item, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	var content file
	if err := json.Unmarshal(raw, &content); err != nil {
		return nil, err
	}
	if content.Format != fileFormat {
		return nil, fmt.Errorf("format %d, this program knows %d", content.Format, fileFormat)
	}
	var items []Item
	seen := map[localKey]bool{}
	for _, i := range content.Alerts {
		key := localKey{i.Kind, i.Participant}
		switch {
		case i.Kind == "" || i.State < Raised || i.State > Over || i.StartsAt.IsZero():
			return nil, fmt.Errorf("alert %q in state %d", i.Kind, i.State)
		case (i.State == Over) == i.EndsAt.IsZero():
			return nil, fmt.Errorf("alert %q in state %d, with ends_at %s", i.Kind, i.State, i.EndsAt)
		case seen[key]:
			return nil, fmt.Errorf("alert %q of participant %q twice", i.Kind, i.Participant)
		}
		seen[key] = true
		items = append(items, Item(i))
	}
	return items, nil
}
