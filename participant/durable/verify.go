package durable

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
)

// verifyBucket reads every record of a bucket: in order, with its checksum,
// found again from the root, and as many as the census says. The others find
// damage to the Pages above the records, which no checksum of ours covers.
func (p *Pages) verifyBucket(bucket []byte, each func(key, value []byte) error) error {
	b := p.at.Bucket(bucket)
	if b == nil {
		return p.Corrupt(bucket, nil, "the bucket is missing")
	}
	var last []byte
	var found census
	err := b.ForEach(func(key, sealed []byte) error {
		switch {
		case sealed == nil:
			return p.Corrupt(bucket, key, "a bucket where a record should be")
		case last != nil && bytes.Compare(last, key) >= 0:
			return p.Corrupt(bucket, key, "the keys are not in order")
		}
		last = key
		value, err := p.Open(bucket, key, sealed)
		if err != nil {
			return err
		}
		if !bytes.Equal(b.Get(key), sealed) {
			return p.Corrupt(bucket, key, "the record is not found under its key")
		}
		found.add(sealed)
		if each == nil {
			return nil
		}
		if err := each(key, value); err != nil {
			return p.Corrupt(bucket, key, err.Error())
		}
		return nil
	})
	if err != nil {
		return err
	}
	sum, err := p.summary()
	if err != nil {
		return err
	}
	if want := p.file.censusOf(sum.counts, bucket); want != nil && *want != found {
		reason := fmt.Sprintf("the bucket has %d records and should have %d, or some are older than they should be", found.count, want.count)
		return &CorruptError{File: p.file.path, Bucket: string(bucket), Reason: reason}
	}
	return nil
}

// The layout of bbolt's two meta Pages (version 2 of its format): a page
// header of 16 bytes, then these fields, in the byte order of the machine.
const (
	metaHeader   = 16
	metaMagic    = 0xED0CDAED
	metaPageSize = 8
	metaRoot     = 16
	metaPages    = 40
	metaTxid     = 48
	metaChecksum = 56
	metaBytes    = 64
)

// verifyStructure checks what bbolt would pass over: with one bad meta page
// it silently goes back to the other, which is one transaction older, and a
// vote would be forgotten. A meta page lies within one sector, so a crash does not tear it.
// It also compares the length of the file with what the Pages need, and walks them.
func verifyStructure(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// Where the second page begins is in the first; if that one is bad, we are done.
	var offset int64
	var newest uint64
	t := &tree{file: f, path: path, seen: map[uint64]bool{}}
	var root uint64
	for page := range 2 {
		m := make([]byte, metaHeader+metaBytes)
		if _, err := f.ReadAt(m, offset); err != nil {
			return &CorruptError{File: path, Reason: fmt.Sprintf("the file is truncated at %d bytes", info.Size())}
		}
		m = m[metaHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(m[:metaChecksum])
		if binary.NativeEndian.Uint32(m) != metaMagic || binary.NativeEndian.Uint64(m[metaChecksum:]) != sum.Sum64() {
			return &CorruptError{File: path, Reason: fmt.Sprintf("meta page %d: the checksum does not match", page)}
		}
		pageSize := binary.NativeEndian.Uint32(m[metaPageSize:])
		if txid := binary.NativeEndian.Uint64(m[metaTxid:]); txid >= newest {
			newest, root = txid, binary.NativeEndian.Uint64(m[metaRoot:])
			t.Pages, t.pageSize = binary.NativeEndian.Uint64(m[metaPages:]), uint64(pageSize)
		}
		offset = int64(pageSize)
	}
	if need := t.Pages * t.pageSize; uint64(info.Size()) < need {
		return &CorruptError{File: path, Reason: fmt.Sprintf("the file is truncated: it has %d bytes and needs %d", info.Size(), need)}
	}
	return t.walk(root)
}
