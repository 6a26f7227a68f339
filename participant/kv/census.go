package kv

import "encoding/binary"

// census is what the records of a bucket are together: how many, and the sum
// of their checksums. A record's own checksum cannot tell that the record is
// missing, or that an older page with an older, whole record stands in its
// place, which damage to the pages above the records can bring about. So the
// census is written with every batch, and Open counts again.
type census struct{ count, sum uint64 }

var keyCensus = []byte("census")

// counted are the buckets that have a census.
var counted = [...][]byte{bucketData, bucketJournal}

func (c *census) add(sealed []byte) {
	if len(sealed) >= sealBytes {
		c.count++
		c.sum += uint64(binary.BigEndian.Uint32(sealed[len(sealed)-sealBytes:]))
	}
}

func (c *census) remove(sealed []byte) {
	if len(sealed) >= sealBytes {
		c.count--
		c.sum -= uint64(binary.BigEndian.Uint32(sealed[len(sealed)-sealBytes:]))
	}
}

// counts is the census of the file.
type counts [len(counted)]census

// of is the census of bucket; nil if it has none.
func (c *counts) of(bucket []byte) *census {
	for i := range counted {
		if &counted[i][0] == &bucket[0] {
			return &c[i]
		}
	}
	return nil
}

func (p *pages) readCounts() (*counts, error) {
	b, err := p.get(bucketMeta, keyCensus)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, p.corrupt(bucketMeta, keyCensus, "the record is missing")
	}
	d := newDecoder(b)
	c := &counts{}
	for i := range c {
		c[i] = census{count: d.uint(), sum: d.uint()}
	}
	if err := d.end(); err != nil {
		return nil, p.corrupt(bucketMeta, keyCensus, err.Error())
	}
	return c, nil
}

// replaced keeps the census of a write: old and sealed are what stood and
// what will stand under a key; nil is nothing.
func (p *pages) replaced(bucket, old, sealed []byte) error {
	if p.counts == nil {
		c, err := p.readCounts()
		if err != nil {
			return err
		}
		p.counts = c
	}
	if c := p.counts.of(bucket); c != nil {
		c.remove(old)
		c.add(sealed)
	}
	return nil
}

// finish writes the census of everything that was written.
func (p *pages) finish() error {
	if p.counts == nil {
		return nil
	}
	e := newEncoder()
	for _, c := range p.counts {
		e.uint(c.count)
		e.uint(c.sum)
	}
	return p.store(bucketMeta, keyCensus, seal(bucketMeta, keyCensus, e.b))
}
