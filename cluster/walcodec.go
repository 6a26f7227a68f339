package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// walCodec is raft-wal's encoding of an entry behind its length and CRC-32C.
// raft-wal has a checksum of each write, and looks at that of the last one
// only; a follower is sent, and the machine applies, what GetLog returns.
type walCodec struct{}

var _ wal.Codec = walCodec{}

const (
	// walCodecID is in every segment's header.
	walCodecID = 0x43434401
	// walPrefix is the length, of what is behind the prefix, and the checksum, of
	// the length and that: 4 bytes each.
	walPrefix = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errEntryChecksum = errors.New("its CRC-32C is not that of its content")

// ID implements wal.Codec.
func (walCodec) ID() uint64 { return walCodecID }

// Encode implements wal.Codec.
func (walCodec) Encode(log *raft.Log, to io.Writer) error {
	const frame = 64 // of the other fields
	buf := bytes.NewBuffer(make([]byte, walPrefix, walPrefix+frame+len(log.Data)+len(log.Extensions)))
	if err := new(wal.BinaryCodec).Encode(log, buf); err != nil {
		return fmt.Errorf("encode entry %d: %w", log.Index, err)
	}
	b := buf.Bytes()
	binary.LittleEndian.PutUint32(b, uint32(len(b)-walPrefix))
	binary.LittleEndian.PutUint32(b[4:], walChecksum(b))
	_, err := to.Write(b)
	return err //nolint:wrapcheck // a buffer of raft-wal's
}

// Decode implements wal.Codec.
func (walCodec) Decode(b []byte, log *raft.Log) error {
	if len(b) < walPrefix || binary.LittleEndian.Uint32(b) != uint32(len(b)-walPrefix) || binary.LittleEndian.Uint32(b[4:]) != walChecksum(b) {
		return errEntryChecksum
	}
	return new(wal.BinaryCodec).Decode(b[walPrefix:], log) //nolint:wrapcheck // the callers name the entry
}

func walChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[walPrefix:])
}
