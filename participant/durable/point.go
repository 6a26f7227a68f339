package durable

import (
	"bytes"
	"slices"

	"go.etcd.io/bbolt"
)

// Point is a point in time of the file: a read transaction of bbolt, and what
// the log has beyond it. It is for one goroutine.
type Point struct {
	*bbolt.Tx
	over    *overlay // nil: nothing is beyond the pages
	under   *overlay // between over and the pages, where a checkpoint is not over; nil: nothing
	seq     uint64
	buckets []namedBucket // those that were looked up
}

type namedBucket struct {
	name   []byte
	bucket *bbolt.Bucket
}

// Begin is a point in time for ViewIn, which ends it.
func (s *File) Begin() (*Point, error) {
	for {
		tx, err := s.db.Begin(false)
		if err != nil {
			return nil, err
		}
		// Loaded after the transaction was opened: what a checkpoint wrote was in
		// the overlay before, so its seq is not older than what the pages have.
		if at := s.over.Load().over(tx); at != nil {
			return at, nil
		}
		_ = tx.Rollback() // a checkpoint came between; the next transaction has it
	}
}

// over is the point in time that o makes of tx; nil if they do not go together.
func (o *overlay) over(tx *bbolt.Tx) *Point {
	switch {
	case o == nil:
		return nil
	case tx.ID() >= o.base:
		return &Point{Tx: tx, over: o, seq: o.seq.Load()}
	}
	below := o.below.Load()
	switch {
	case below == nil || tx.ID() < below.base:
		return nil
	case o.more:
		return &Point{Tx: tx, over: below, seq: below.seq.Load()}
	default:
		return &Point{Tx: tx, over: o, under: below, seq: o.seq.Load()}
	}
}

// find is a record as of this point in time; false if it is as the pages have it.
func (p *Point) find(bucket, key []byte) (sealed []byte, found bool) {
	for _, o := range [...]*overlay{p.over, p.under} {
		if o == nil {
			continue
		}
		if sealed, found = o.find(bucket, key, p.seq); found {
			return sealed, true
		}
	}
	return nil, false
}

// sorted are the keys of a bucket that may lie over the pages, in order.
func (p *Point) sorted(bucket []byte) []string {
	if p.over == nil {
		return nil
	}
	over := p.over.sorted(bucket)
	if p.under == nil {
		return over
	}
	return merged(p.under.sorted(bucket), over)
}

// bucket is that of the pages; nil if it is missing.
func (p *Point) bucket(name []byte) *bbolt.Bucket {
	for _, b := range p.buckets {
		if bytes.Equal(b.name, name) {
			return b.bucket
		}
	}
	b := p.Bucket(name)
	if b != nil {
		p.buckets = append(p.buckets, namedBucket{name, b})
	}
	return b
}

// Cursor walks a bucket, in the order of the keys.
type Cursor struct {
	at     *Point
	bucket []byte
	in     *bbolt.Cursor
	// key and value are where in is; nil: at its end.
	key, value []byte
	// over are the keys that lie over it, from there on. Some may not at this point in time.
	over []string
}

// Cursor walks a bucket, as it was before the batch at work; what it finds is for Open.
func (p *Pages) Cursor(bucket []byte) *Cursor {
	return &Cursor{at: p.at, bucket: bucket, in: p.at.bucket(bucket).Cursor()}
}

// Seek goes to the first key that is not before key; nil if there is none.
func (c *Cursor) Seek(key []byte) (found, sealed []byte) {
	c.key, c.value = c.in.Seek(key)
	c.over = c.at.sorted(c.bucket)
	i, _ := slices.BinarySearch(c.over, string(key))
	c.over = c.over[i:]
	return c.Next()
}

// Next goes to the next key; nil if there is none.
func (c *Cursor) Next() (found, sealed []byte) {
	for len(c.over) > 0 && (c.key == nil || c.over[0] <= string(c.key)) {
		key := []byte(c.over[0])
		c.over = c.over[1:]
		sealed, changed := c.at.find(c.bucket, key)
		if !changed {
			continue
		}
		if bytes.Equal(c.key, key) {
			c.key, c.value = c.in.Next()
		}
		if sealed != nil {
			return key, sealed
		}
	}
	key, sealed := c.key, c.value
	if key != nil {
		c.key, c.value = c.in.Next()
	}
	return key, sealed
}
