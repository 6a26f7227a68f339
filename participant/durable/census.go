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

// summary is the record of the census in the pages. While there is a log it has
// the log's mark, and another version, at which older programs stop: they would
// not see what is in the log only.
type summary struct {
	counts []census
	log    *mark // nil: the pages are whole without a log
}

// loggedVersion is FormatVersion's for a summary with a mark. That of halfVersion,
// before, has no length: its log was what is the first half now.
const (
	halfVersion   = 2
	loggedVersion = 3
)

func (s summary) encode() []byte {
	e := NewEncoder()
	for _, c := range s.counts {
		e.Uint(c.count)
		e.Uint(c.sum)
	}
	if s.log != nil {
		e.b[0] = loggedVersion
		e.Bytes(s.log.id[:])
		e.Uint(s.log.seq)
		e.Uint(uint64(s.log.length))
	}
	return e.b
}

// decodeSummary reads a summary of so many buckets.
func decodeSummary(b []byte, buckets int) (summary, error) {
	d := &Decoder{b: b}
	version := d.Byte()
	s := summary{counts: make([]census, buckets)}
	for i := range s.counts {
		s.counts[i] = census{count: d.Uint(), sum: d.Uint()}
	}
	switch version {
	case FormatVersion:
	case halfVersion, loggedVersion:
		s.log = &mark{length: logBytes, oneHalf: version == halfVersion}
		if copy(s.log.id[:], d.Bytes()) != logID {
			d.Spoil()
		}
		s.log.seq = d.Uint()
		if version == loggedVersion {
			s.log.length = int64(d.Uint())
		}
		if s.log.length < 2*logHeader {
			d.Spoil()
		}
	default:
		d.Spoil()
	}
	return s, d.End()
}

func (p *Pages) summary() (summary, error) {
	b, err := p.Get(bucketMeta, keyCensus)
	if err != nil {
		return summary{}, err
	}
	if b == nil {
		return summary{}, p.Corrupt(bucketMeta, keyCensus, "the record is missing")
	}
	s, err := decodeSummary(b, len(p.file.counted))
	if err != nil {
		return summary{}, p.Corrupt(bucketMeta, keyCensus, err.Error())
	}
	return s, nil
}
