package durable

import (
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// The buckets of every file.
var (
	bucketJournal = []byte("journal")
	bucketMeta    = []byte("meta")
)

// Pages is one bbolt transaction with checksums. Reads and writes through it
// are the only ones there are.
type Pages struct {
	tx   *bbolt.Tx
	file *File
	// dirty: something was written, so the transaction is worth a sync.
	dirty bool
	// counts is the census with what was written here; nil before the first write.
	counts []census
}

// Get is a value as it was put; nil if there is none. It is valid until the transaction ends.
func (p *Pages) Get(bucket, key []byte) ([]byte, error) {
	b := p.tx.Bucket(bucket)
	if b == nil {
		return nil, p.Corrupt(bucket, nil, "the bucket is missing")
	}
	sealed := b.Get(key)
	if sealed == nil {
		return nil, nil
	}
	return p.Open(bucket, key, sealed)
}

// Cursor walks a bucket; what it finds is for Open.
func (p *Pages) Cursor(bucket []byte) *bbolt.Cursor { return p.tx.Bucket(bucket).Cursor() }

// Open is the value of a record as a cursor found it.
func (p *Pages) Open(bucket, key, sealed []byte) ([]byte, error) {
	value, ok := unseal(bucket, key, sealed)
	if !ok {
		return nil, p.Corrupt(bucket, key, "the checksum does not match")
	}
	return value, nil
}

// Put stores a value. It and Delete fail only if the file does: keys and sizes
// were checked before. So their errors are final (P15).
func (p *Pages) Put(bucket, key, value []byte) error {
	old := p.tx.Bucket(bucket).Get(key)
	sealed := seal(bucket, key, value)
	if err := p.replaced(bucket, old, sealed); err != nil {
		return err
	}
	return p.store(bucket, key, sealed)
}

func (p *Pages) store(bucket, key, sealed []byte) error {
	p.dirty = true
	if err := p.tx.Bucket(bucket).Put(key, sealed); err != nil {
		return &WriteError{File: p.file.path, Err: fmt.Errorf("put in bucket %q, key %q: %w", bucket, key, err)}
	}
	return nil
}

// Delete drops a value, if there is one.
func (p *Pages) Delete(bucket, key []byte) error {
	old := p.tx.Bucket(bucket).Get(key)
	if old == nil {
		return nil
	}
	if err := p.replaced(bucket, old, nil); err != nil {
		return err
	}
	p.dirty = true
	if err := p.tx.Bucket(bucket).Delete(key); err != nil {
		return &WriteError{File: p.file.path, Err: fmt.Errorf("delete in bucket %q, key %q: %w", bucket, key, err)}
	}
	return nil
}

// Corrupt is the error for a value that cannot be what was written.
func (p *Pages) Corrupt(bucket, key []byte, reason string) error {
	return &CorruptError{File: p.file.path, Bucket: string(bucket), Key: string(key), Reason: reason}
}

// View runs f over one point in time. What it sees may not be synced yet (I1).
func (s *File) View(f func(*Pages) error) (err error) {
	if err := s.Failure(); err != nil {
		return err
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return ErrClosed
	}
	return s.ViewIn(tx, f)
}

// Begin is a point in time for ViewIn, which ends it.
func (s *File) Begin() (*bbolt.Tx, error) { return s.db.Begin(false) }

// ViewIn runs f in a read transaction and ends it.
func (s *File) ViewIn(tx *bbolt.Tx, f func(*Pages) error) (err error) {
	defer func() {
		// Its only error is that the transaction has ended.
		_ = tx.Rollback()
		err = s.check(err)
	}()
	defer guard(s.path, &err, debug.SetPanicOnFault(true))
	return f(&Pages{tx: tx, file: s})
}
