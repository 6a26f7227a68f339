package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// FormatVersion is the first byte of every log entry of ours. A node that
// meets a newer one stops rather than guess. Version 1 had no times and no
// alert marks, version 2 named every transaction and had every digest; both are
// read as they stand. There is no version 3: one flipped bit would make 2 of it.
const FormatVersion = 4

const entryHeader = 1 + 4 // version, CRC-32C

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The fields of fsmpb.Batch.
const (
	batchTerm     protowire.Number = 1
	batchCommands protowire.Number = 2
	batchUnixMS   protowire.Number = 3
)

// EncodeCommand is a command's bytes, for EncodeEntry. It fails where no
// replica could read them: on a string that is not UTF-8.
func EncodeCommand(c *fsmpb.Command) ([]byte, error) {
	b, err := proto.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return b, nil
}

// EncodeEntry makes one log entry of encoded commands, to be proposed in term.
// unixMS is the proposer's wall clock, for people; 0 if it is not known.
func EncodeEntry(term uint64, unixMS int64, commands [][]byte) []byte {
	size := entryHeader + protowire.SizeTag(batchTerm) + protowire.SizeVarint(term) +
		protowire.SizeTag(batchUnixMS) + protowire.SizeVarint(uint64(unixMS))
	for _, c := range commands {
		size += protowire.SizeTag(batchCommands) + protowire.SizeBytes(len(c))
	}
	out := make([]byte, entryHeader, size)
	out[0] = FormatVersion
	if term != 0 {
		out = protowire.AppendVarint(protowire.AppendTag(out, batchTerm, protowire.VarintType), term)
	}
	for _, c := range commands {
		out = protowire.AppendBytes(protowire.AppendTag(out, batchCommands, protowire.BytesType), c)
	}
	if unixMS != 0 {
		out = protowire.AppendVarint(protowire.AppendTag(out, batchUnixMS, protowire.VarintType), uint64(unixMS))
	}
	binary.BigEndian.PutUint32(out[1:], crc32.Checksum(out[entryHeader:], castagnoli))
	return out
}

// EncodeBatch makes one log entry of commands, to be proposed in term, without a time.
func EncodeBatch(term uint64, commands []*fsmpb.Command) ([]byte, error) {
	encoded := make([][]byte, len(commands))
	for i, c := range commands {
		b, err := EncodeCommand(c)
		if err != nil {
			return nil, err
		}
		encoded[i] = b
	}
	return EncodeEntry(term, 0, encoded), nil
}

// ErrCorrupt marks bytes that are not what was written.
var ErrCorrupt = errors.New("corrupt")

// CheckEntry holds a log entry against its checksum and its format version; it
// does not look into the commands. Damage is ErrCorrupt.
func CheckEntry(entry []byte) error {
	if len(entry) < entryHeader {
		return fmt.Errorf("log entry of %d bytes: %w", len(entry), ErrCorrupt)
	}
	want := binary.BigEndian.Uint32(entry[1:])
	if got := crc32.Checksum(entry[entryHeader:], castagnoli); got != want {
		return fmt.Errorf("log entry: CRC-32C is %08x, should be %08x: %w", got, want, ErrCorrupt)
	}
	if entry[0] == 0 || entry[0] > FormatVersion {
		return fmt.Errorf("log entry has format version %d, this program knows %d: run the newer program", entry[0], FormatVersion)
	}
	return nil
}

func decodeBatch(entry []byte) (*fsmpb.Batch, error) {
	if err := CheckEntry(entry); err != nil {
		return nil, err
	}
	b := new(fsmpb.Batch)
	if err := proto.Unmarshal(entry[entryHeader:], b); err != nil {
		return nil, fmt.Errorf("log entry: %w: %w", ErrCorrupt, err)
	}
	return b, nil
}
