package kv

import (
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
)

var bucketData = []byte("data")

// Open opens the store at path, and makes it if there is none. It reads and
// checks every record, and takes the locks of every branch that is still
// prepared, before it returns. Errors: ErrInUse; a *CorruptError, of which
// Options.Fatal is told as well; anything the file system says.
func Open(path string, options Options) (*Store, error) {
	s := &Store{options: options.withDefaults(), held: map[string]*branch{}, meters: newMeters()}
	var err error
	s.file, err = durable.Open(path, durable.Options{
		Kind: s.options.Kind, Buckets: []durable.Bucket{{Name: bucketData, Check: checkValue}}, CheckRecord: checkRecord,
		NewIncarnation: options.NewIncarnation, Logger: options.Logger, Fatal: options.Fatal,
		Sync: options.Sync, SyncSeconds: s.meters.sync, LogBytes: options.LogBytes, OpenFile: options.openFile,
	})
	if err != nil {
		return nil, fmt.Errorf("kv: %w", err)
	}
	s.locks = newLockTable(s.file.Begin)
	s.locks.waited = s.meters.lockWait
	if err := s.restore(); err != nil {
		_ = s.file.Close()
		return nil, fmt.Errorf("kv: open %s: %w", path, err)
	}
	return s, nil
}

func checkValue(_, value []byte) error {
	_, err := decodeValue(value)
	return err
}

func checkRecord(id string, b []byte) error {
	_, err := decodeRecord(id, b)
	return err
}

// restore reads the held branches and takes their locks.
func (s *Store) restore() error {
	now := time.Now()
	return s.view(func(p pages) error {
		return p.EachRecord(func(id string, j durable.Record) error {
			r, err := p.recordOf(id, j)
			if err != nil || r.entry.Held == nil {
				return err
			}
			h := r.entry.Held
			ref := participant.Ref{ID: id, Attempt: h.Attempt, Digest: h.Digest}
			o := newOwner(participant.Work{Ref: ref, Priority: h.Priority})
			if !mutant.On("locks-not-restored") {
				s.locks.restore(o, r.locks)
			}
			s.locks.saw(h.Attempt)
			s.held[ref.ID] = &branch{owner: o, held: participant.Held{Ref: ref, Priority: h.Priority, Since: now}}
			return nil
		})
	})
}
