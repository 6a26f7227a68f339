package durable

import "runtime/debug"

// The buckets of every file.
var (
	bucketJournal = []byte("journal")
	bucketMeta    = []byte("meta")
)

// Pages is the records at one point in time, with checksums, and in the
// committer a batch of changes to them. Reads and writes through it are the only
// ones there are.
type Pages struct {
	at   *Point
	file *File
	// changes are what was written here; nil: nothing may be.
	changes *changes
	// counts is the census with them.
	counts []census
}

// Get is a value as it was put; nil if there is none. It is valid until the transaction ends.
func (p *Pages) Get(bucket, key []byte) ([]byte, error) {
	sealed, err := p.sealed(bucket, key)
	if err != nil || sealed == nil {
		return nil, err
	}
	return p.Open(bucket, key, sealed)
}

// sealed is a record as it stands; nil if there is none.
func (p *Pages) sealed(bucket, key []byte) ([]byte, error) {
	if sealed, found := p.changes.find(bucket, key); found {
		return sealed, nil
	}
	if sealed, found := p.at.find(bucket, key); found {
		return sealed, nil
	}
	b := p.at.bucket(bucket)
	if b == nil {
		return nil, p.Corrupt(bucket, nil, "the bucket is missing")
	}
	return b.Get(key), nil
}

// Open is the value of a record as a cursor found it.
func (p *Pages) Open(bucket, key, sealed []byte) ([]byte, error) {
	value, ok := unseal(bucket, key, sealed)
	if !ok {
		return nil, p.Corrupt(bucket, key, "the checksum does not match")
	}
	return value, nil
}

// Put stores a value, in a batch. It and Delete fail only if the file does: keys
// and sizes were checked before. So their errors are final (P15).
func (p *Pages) Put(bucket, key, value []byte) error {
	old, err := p.sealed(bucket, key)
	if err == nil {
		p.change(bucket, key, old, seal(bucket, key, value))
	}
	return err
}

// Delete drops a value, if there is one.
func (p *Pages) Delete(bucket, key []byte) error {
	old, err := p.sealed(bucket, key)
	if err == nil && old != nil {
		p.change(bucket, key, old, nil)
	}
	return err
}

func (p *Pages) change(bucket, key, old, sealed []byte) {
	if c := p.file.censusOf(p.counts, bucket); c != nil {
		c.remove(old)
		c.add(sealed)
	}
	p.changes.set(bucket, key, sealed)
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
	at, err := s.Begin()
	if err != nil {
		return ErrClosed
	}
	return s.ViewIn(at, f)
}

// ViewIn runs f over a point in time and ends it.
func (s *File) ViewIn(at *Point, f func(*Pages) error) (err error) {
	defer func() {
		// Its only error is that the transaction has ended.
		_ = at.Rollback()
		err = s.check(err)
	}()
	defer guard(s.path, &err, debug.SetPanicOnFault(true))
	return f(&Pages{at: at, file: s})
}
