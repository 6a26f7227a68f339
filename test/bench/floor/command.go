package floor

import (
	"encoding/binary"
	"errors"
)

// kind is the first byte of a command.
type kind byte

const (
	kindPut kind = iota + 1
	kindBegin
	kindDecide
	kindFinish
)

// Sizes of commands, in bytes: those of a transaction with two branches that
// names them, of a decision, and of a mark.
const (
	// CommandBytes is the size of a begin or a Put.
	CommandBytes = 128
	decideBytes  = 32
	finishBytes  = 24

	idBytes = 16
)

type id [idBytes]byte

// command is of that kind and size about id.
func command(k kind, size int, of id) []byte {
	b := make([]byte, size)
	b[0] = byte(k)
	copy(b[1:], of[:])
	return b
}

// batch is the entry that holds the commands, each behind its length.
func batch(commands [][]byte) []byte {
	size := 0
	for _, c := range commands {
		size += 2 + len(c)
	}
	b := make([]byte, 0, size)
	for _, c := range commands {
		b = binary.BigEndian.AppendUint16(b, uint16(len(c)))
		b = append(b, c...)
	}
	return b
}

var errEntry = errors.New("an entry that no node has written")

// each hands the commands of an entry to f.
func each(entry []byte, f func(k kind, of id)) error {
	for len(entry) > 0 {
		if len(entry) < 2 {
			return errEntry
		}
		n := int(binary.BigEndian.Uint16(entry))
		if n < 1+idBytes || len(entry) < 2+n {
			return errEntry
		}
		f(kind(entry[2]), id(entry[3:3+idBytes]))
		entry = entry[2+n:]
	}
	return nil
}
