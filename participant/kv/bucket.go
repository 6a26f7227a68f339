package kv

import (
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// The buckets of the file.
var (
	bucketData    = []byte("data")
	bucketJournal = []byte("journal")
	bucketMeta    = []byte("meta")
)

// pages is one bbolt transaction with checksums. Reads and writes through it
// are the only ones there are.
type pages struct {
	tx   *bbolt.Tx
	file string
	// dirty: something was written, so the transaction is worth a sync.
	dirty bool
	// counts is the census with what was written here; nil before the first write.
	counts *counts
}

// get is a value as it was put; nil if there is none. It is valid until the transaction ends.
func (p *pages) get(bucket, key []byte) ([]byte, error) {
	b := p.tx.Bucket(bucket)
	if b == nil {
		return nil, p.corrupt(bucket, nil, "the bucket is missing")
	}
	sealed := b.Get(key)
	if sealed == nil {
		return nil, nil
	}
	return p.open(bucket, key, sealed)
}

func (p *pages) open(bucket, key, sealed []byte) ([]byte, error) {
	value, ok := unseal(bucket, key, sealed)
	if !ok {
		return nil, p.corrupt(bucket, key, "the checksum does not match")
	}
	return value, nil
}

// put and delete fail only if the file does: keys and sizes were checked
// before. So their errors are final (P15).
func (p *pages) put(bucket, key, value []byte) error {
	old := p.tx.Bucket(bucket).Get(key)
	sealed := seal(bucket, key, value)
	if err := p.replaced(bucket, old, sealed); err != nil {
		return err
	}
	return p.store(bucket, key, sealed)
}

func (p *pages) store(bucket, key, sealed []byte) error {
	p.dirty = true
	if err := p.tx.Bucket(bucket).Put(key, sealed); err != nil {
		return &WriteError{File: p.file, Err: fmt.Errorf("put in bucket %q, key %q: %w", bucket, key, err)}
	}
	return nil
}

func (p *pages) delete(bucket, key []byte) error {
	old := p.tx.Bucket(bucket).Get(key)
	if old == nil {
		return nil
	}
	if err := p.replaced(bucket, old, nil); err != nil {
		return err
	}
	p.dirty = true
	if err := p.tx.Bucket(bucket).Delete(key); err != nil {
		return &WriteError{File: p.file, Err: fmt.Errorf("delete in bucket %q, key %q: %w", bucket, key, err)}
	}
	return nil
}

func (p *pages) corrupt(bucket, key []byte, reason string) error {
	return &CorruptError{File: p.file, Bucket: string(bucket), Key: string(key), Reason: reason}
}

// view runs f over one point in time. What it sees may not be synced yet (I2).
func (s *Store) view(f func(*pages) error) (err error) {
	if err := s.failure(); err != nil {
		return err
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return ErrClosed
	}
	return s.viewIn(tx, f)
}

// viewIn runs f in a read transaction and ends it.
func (s *Store) viewIn(tx *bbolt.Tx, f func(*pages) error) (err error) {
	defer func() {
		// Its only error is that the transaction has ended.
		_ = tx.Rollback()
		err = s.check(err)
	}()
	defer guard(s.path, &err, debug.SetPanicOnFault(true))
	return f(&pages{tx: tx, file: s.path})
}
