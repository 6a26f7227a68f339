package durable

import (
	"bytes"
	"encoding/binary"
)

// census is what the records of a bucket are together: how many, and the sum
// of their checksums. A record's own checksum cannot tell that the record is
// missing, or that an older page with an older, whole record stands in its
// place, which damage to the Pages above the records can bring about. So the
// census is written with every batch and every checkpoint, and Open counts again.
type census struct{ count, sum uint64 }

var keyCensus = []byte("census")

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

// censusOf is the census of bucket among counts; nil if it has none.
func (s *File) censusOf(counts []census, bucket []byte) *census {
	for i, name := range s.counted {
		if bytes.Equal(name, bucket) {
			return &counts[i]
		}
	}
	return nil
}

func (p *Pages) readCounts() ([]census, error) {
	b, err := p.Get(bucketMeta, keyCensus)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, p.Corrupt(bucketMeta, keyCensus, "the record is missing")
	}
	d := NewDecoder(b)
	c := make([]census, len(p.file.counted))
	for i := range c {
		c[i] = census{count: d.Uint(), sum: d.Uint()}
	}
	if err := d.End(); err != nil {
		return nil, p.Corrupt(bucketMeta, keyCensus, err.Error())
	}
	return c, nil
}

// encodeCounts is the record of the census.
func encodeCounts(counts []census) []byte {
	e := NewEncoder()
	for _, c := range counts {
		e.Uint(c.count)
		e.Uint(c.sum)
	}
	return e.b
}
