package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// openTimeout is how long Open waits for the lock on the file. Whoever has it
// is another participant with the same data, which does not go away by waiting,
// or one that was killed, which does when the disk lets go of it.
const openTimeout = 3 * time.Second

// mapBytes is the least address space for the memory map. A map that must
// grow waits for every reader, so it starts larger than most files get.
const mapBytes = 64 << 20

// Open opens the file at path, and makes it if there is none. It reads and
// checks every record before it returns. Errors: ErrInUse; a *CorruptError, of
// which Options.Fatal is told as well; anything the file system says.
func Open(path string, options Options) (*File, error) {
	s := &File{path: path, options: options.withDefaults()}
	for _, b := range options.Buckets {
		s.counted = append(s.counted, b.Name)
	}
	s.counted = append(s.counted, bucketJournal)
	if err := s.open(); err != nil {
		if s.log != nil {
			_ = s.log.close()
		}
		if s.db != nil {
			_ = s.db.Close()
		}
		return nil, s.check(fmt.Errorf("open %s: %w", path, err))
	}
	go s.committer.run()
	return s, nil
}

func (s *File) open() error {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		if err := s.create(); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := s.verify(); err != nil {
		return err
	}
	db, err := s.openForWriting()
	if err != nil {
		return openError(err)
	}
	s.db = db
	s.committer = newCommitter(s)
	if err := s.replay(); err != nil {
		return err
	}
	if err := s.readMeta(); err != nil {
		return err
	}
	if s.options.NewIncarnation {
		return s.reincarnate()
	}
	return nil
}

func (s *File) openForWriting() (db *bbolt.DB, err error) {
	defer guard(s.path, &err, debug.SetPanicOnFault(true))
	return bbolt.Open(s.path, 0o600, &bbolt.Options{
		Timeout: openTimeout, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
		InitialMmapSize: mapBytes, OpenFile: s.options.OpenFile,
	})
}

func openError(err error) error {
	if errors.Is(err, berrors.ErrTimeout) {
		return ErrInUse
	}
	return err
}

// readMeta reads whose data these are, and the fence.
func (s *File) readMeta() error {
	return s.View(func(p *Pages) (err error) {
		if s.incarnation, err = p.incarnation(); err != nil {
			return err
		}
		s.binding, err = p.Binding()
		return err
	})
}

func (s *File) reincarnate() error {
	incarnation := newIncarnation()
	failpoint.Hit("participant.incarnation.write.before")
	err := s.update(func(w *pageWriter) error { return w.putMeta(keyIncarnation, encodeIncarnation(incarnation)) })
	failpoint.Hit("participant.incarnation.write.after")
	if err != nil {
		return &WriteError{File: s.path, Err: err}
	}
	s.incarnation = incarnation
	return nil
}

// create makes an empty store under another name and then gives it its own,
// so that a file at path is always a whole store, wherever the power fails.
// Link, unlike rename, never replaces a store that somebody made meanwhile.
func (s *File) create() error {
	failpoint.Hit("participant.store.create.before")
	temporary := fmt.Sprintf("%s.new-%s", s.path, newIncarnation())
	defer func() {
		failpoint.Hit("participant.store.unlink.before")
		_ = os.Remove(temporary)
		failpoint.Hit("participant.store.unlink.after")
	}()
	db, err := bbolt.Open(temporary, 0o600, &bbolt.Options{Timeout: openTimeout, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, bucket := range append(slices.Clone(s.counted), bucketMeta) {
			if _, err := tx.CreateBucket(bucket); err != nil {
				return err
			}
		}
		w := &pageWriter{tx: tx, file: s}
		err := w.putMeta(keyIncarnation, encodeIncarnation(newIncarnation()))
		return errors.Join(err, w.putMeta(keyCensus, summary{counts: make([]census, len(s.counted))}.encode()))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	failpoint.Hit("participant.store.create.after")
	failpoint.Hit("participant.store.link.before")
	if err := os.Link(temporary, s.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err = syncDirectory(filepath.Dir(s.path))
	failpoint.Hit("participant.store.link.after")
	return err
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// verify checks the whole file before bbolt may write to it. It opens the file
// for reading first, because bbolt answers some damage with a panic of its own
// when it opens a file for writing.
func (s *File) verify() error {
	// bbolt would take an empty file for a new one.
	if info, err := os.Stat(s.path); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		return &CorruptError{File: s.path, Reason: "the file is empty"}
	}
	db, err := bbolt.Open(s.path, 0o600, &bbolt.Options{Timeout: openTimeout, ReadOnly: true})
	if err != nil {
		if err := openError(err); errors.Is(err, ErrInUse) {
			return err
		}
		var errno *fs.PathError
		if errors.As(err, &errno) {
			return err
		}
		return &CorruptError{File: s.path, Reason: err.Error()}
	}
	err = s.verifyPages(db)
	return errors.Join(err, db.Close())
}

func (s *File) verifyPages(db *bbolt.DB) (err error) {
	if err := verifyStructure(s.path); err != nil {
		return err
	}
	defer guard(s.path, &err, debug.SetPanicOnFault(true))
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	p := &Pages{at: &Point{Tx: tx}, file: s}
	if err := p.verifyBucket(bucketMeta, nil); err != nil {
		return err
	}
	err = p.verifyBucket(bucketJournal, func(key, value []byte) error { return s.options.CheckRecord(string(key), value) })
	if err != nil {
		return err
	}
	for _, b := range s.options.Buckets {
		if err := p.verifyBucket(b.Name, b.Check); err != nil {
			return err
		}
	}
	return nil
}
