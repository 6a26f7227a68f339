package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// sample holds one command of every kind.
func sample() []*fsmpb.Command {
	a := Attempt{Generation: 1, Term: 7, Sequence: 3}
	d := commit("t-1", a, VotePrepared, VoteReadOnly)
	d.GetDecide().Votes[0].Result = []byte("seat 12A")
	d.GetDecide().Votes[1].Truncated = true
	return []*fsmpb.Command{
		establish("n1"), announce("n2"), register("seats"),
		beginWith("t-1", a, func(c *fsmpb.Begin) { c.RetryOf, c.Since, c.HasSince = "t-0", 5, true }, "seats", "payments"),
		d, abort("t-2", a, VoteNone), finish("t-1", a, SettledDone, HeuristicHazard), forget("t-1", 12),
		refuseSince("t-3", 9), giveUp("t-1", a, "seats"), acknowledge("t-1", a), remove("seats"),
		mark("undelivered", "seats", AlertTold),
		registerWith("stock", canOnePhase), beginWith("t-4", a, onePhase, "stock"), commit("t-4", a, VoteCommitted),
	}
}

func TestEntryFormatIsGolden(t *testing.T) {
	golden(t, "entry.golden", encodeAt(t, 7, clock(1), sample()...))
}

// What a program of an earlier format version logged is applied as it stands.
func TestEntriesOfEarlierVersionsAreRead(t *testing.T) {
	for file, commands := range map[string]int{"entry.v1.golden": 12, "entry.v2.golden": 13} {
		old, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		results, err := New().Apply(1, 7, old)
		if err != nil {
			t.Fatal(err)
		}
		if len(results) != commands {
			t.Errorf("%s: %d results", file, len(results))
		}
	}
}

func TestEntryOfEveryKindIsRead(t *testing.T) {
	results, err := New().Apply(1, 7, encode(t, 7, sample()...))
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(sample()) {
		t.Errorf("%d results for %d commands", len(results), len(sample()))
	}
}

// Any single bit that flips in an entry is found; nothing is applied.
func TestEntryFlipsAreFound(t *testing.T) {
	entry := encode(t, 7, sample()...)
	empty := hashOf(New())
	for i := range entry {
		for bit := range 8 {
			bad := append([]byte(nil), entry...)
			bad[i] ^= 1 << bit
			m := New()
			if _, err := m.Apply(1, 7, bad); err == nil {
				t.Fatalf("byte %d, bit %d: accepted", i, bit)
			}
			if hashOf(m) != empty {
				t.Fatalf("byte %d, bit %d: the state changed", i, bit)
			}
		}
	}
}

func TestEntryCutShortIsFound(t *testing.T) {
	entry := encode(t, 7, sample()...)
	for n := range entry {
		if _, err := New().Apply(1, 7, entry[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(entry), err)
		}
	}
}

// sealed is an entry with a right CRC around any body.
func sealed(version byte, body []byte) []byte {
	entry := append([]byte{version, 0, 0, 0, 0}, body...)
	binary.BigEndian.PutUint32(entry[1:], crc32.Checksum(body, castagnoli))
	return entry
}

func TestEntryOfANewerProgramStops(t *testing.T) {
	// A Batch with one Command whose only field has a number that is not known.
	command := protowire.AppendTag(nil, 99, protowire.BytesType)
	command = protowire.AppendBytes(command, []byte("new"))
	unknownKind := protowire.AppendTag(nil, 2, protowire.BytesType)
	unknownKind = protowire.AppendBytes(unknownKind, command)
	noKind := protowire.AppendTag(nil, 2, protowire.BytesType)
	noKind = protowire.AppendBytes(noKind, nil)
	body := encode(t, 0, establish("n1"))[entryHeader:]

	for name, entry := range map[string][]byte{
		"format version 0":        sealed(0, body),
		"the next format version": sealed(FormatVersion+1, body),
		"format version 255":      sealed(255, body),
		"unknown kind":            sealed(FormatVersion, unknownKind),
		"no kind":                 sealed(FormatVersion, noKind),
		"unknown behind a known":  sealed(FormatVersion, append(append([]byte(nil), body...), unknownKind...)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New().Apply(1, 0, entry)
			if err == nil {
				t.Fatal("accepted")
			}
			if errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "newer program") {
				t.Errorf("error %q does not tell the operator to run the newer program", err)
			}
		})
	}
	if _, err := New().Apply(1, 0, sealed(FormatVersion, []byte{0xff})); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a body that is no proto: %v", err)
	}
}

// An entry that is put together from encoded commands is the message fsmpb.Batch.
func TestEntryIsABatch(t *testing.T) {
	for name, batch := range map[string]*fsmpb.Batch{
		"every kind":   {Term: 7, Commands: sample()},
		"a time":       {Term: 7, Commands: sample()[:3], UnixMs: clock(5)},
		"a large term": {Term: math.MaxUint64, Commands: sample()[:1]},
		"no term":      {Commands: sample()[:2]},
		"no commands":  {Term: 7},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := proto.Marshal(batch)
			if err != nil {
				t.Fatal(err)
			}
			if got := encodeAt(t, batch.GetTerm(), batch.GetUnixMs(), batch.GetCommands()...); !bytes.Equal(got, sealed(FormatVersion, body)) {
				t.Errorf("%x, want %x behind the header", got, body)
			}
		})
	}
}

// CheckEntry finds what Apply would find, short of looking into the commands.
func TestCheckEntry(t *testing.T) {
	entry := encode(t, 7, sample()...)
	if err := CheckEntry(entry); err != nil {
		t.Fatal(err)
	}
	for i := range entry {
		bad := append([]byte(nil), entry...)
		bad[i] ^= 1
		if err := CheckEntry(bad); err == nil || i > 0 && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if err := CheckEntry(entry[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if err := CheckEntry(sealed(FormatVersion, []byte("no commands at all"))); err != nil {
		t.Errorf("%v", err)
	}
}

func TestEncodeRefusesInvalidUTF8(t *testing.T) {
	if _, err := EncodeBatch(1, []*fsmpb.Command{refuse("a\xffb")}); err == nil {
		t.Error("an entry that no replica could read was made")
	}
}
