package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// FormatVersion is the first byte of every log entry of ours. A node that
// meets another one stops rather than guess.
const FormatVersion = 1

const entryHeader = 1 + 4 // version, CRC-32C

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EncodeBatch makes one log entry of commands, to be proposed in term.
func EncodeBatch(term uint64, commands []*fsmpb.Command) ([]byte, error) {
	out := make([]byte, entryHeader, 512)
	out[0] = FormatVersion
	out, err := proto.MarshalOptions{}.MarshalAppend(out, &fsmpb.Batch{Term: term, Commands: commands})
	if err != nil {
		return nil, fmt.Errorf("encode log entry: %w", err)
	}
	binary.BigEndian.PutUint32(out[1:], crc32.Checksum(out[entryHeader:], castagnoli))
	return out, nil
}

// ErrCorrupt marks bytes that are not what was written.
var ErrCorrupt = errors.New("corrupt")

func decodeBatch(entry []byte) (*fsmpb.Batch, error) {
	if len(entry) < entryHeader {
		return nil, fmt.Errorf("log entry of %d bytes: %w", len(entry), ErrCorrupt)
	}
	want := binary.BigEndian.Uint32(entry[1:])
	if got := crc32.Checksum(entry[entryHeader:], castagnoli); got != want {
		return nil, fmt.Errorf("log entry: CRC-32C is %08x, should be %08x: %w", got, want, ErrCorrupt)
	}
	if entry[0] != FormatVersion {
		return nil, fmt.Errorf("log entry has format version %d, this program knows %d: run the newer program", entry[0], FormatVersion)
	}
	b := new(fsmpb.Batch)
	if err := proto.Unmarshal(entry[entryHeader:], b); err != nil {
		return nil, fmt.Errorf("log entry: %w: %w", ErrCorrupt, err)
	}
	return b, nil
}
