package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// Hard limits of the protocol. The first five may be lowered by a node's
// configuration, never raised: they bound what one log entry can hold.
const (
	MaxBranches           = 64        // branches a transaction
	MaxIDBytes            = 48        // XA leaves 64 bytes for cluster and transaction id together
	MaxParticipantBytes   = 64        // a participant's name
	MaxPayloadBytes       = 64 << 10  // payload of one branch
	MaxTransactionBytes   = 256 << 10 // payload of one transaction
	MaxResultBytes        = 64 << 10  // result of one branch on the wire
	MaxLoggedResultBytes  = 4 << 10   // results of one transaction that Decide carries
	MaxReasonBytes        = 512       // text of one reason; longer ones are cut
	MaxEndpoints          = 16        // endpoints of one participant
	MaxEndpointBytes      = 256       // one endpoint, host:port
	MaxNodeIDBytes        = 64        // id of a node or of the cluster
	MaxKindBytes          = 64        // a participant's kind
	MaxIncarnationBytes   = 64        // the incarnation of a participant's data
	MinTimeout            = 50 * time.Millisecond
	MaxTimeout            = 60 * time.Second
	DefaultTimeout        = 5 * time.Second
	DigestBytes           = 16
	DefaultRetentionAge   = time.Hour
	DefaultRetentionCount = 200_000
)

// Digest identifies content: the first 16 bytes of SHA-256. That is plenty
// against accident, and who makes a collision fools only their own transaction.
type Digest [DigestBytes]byte

// DigestOf hashes one payload.
func DigestOf(payload []byte) Digest {
	sum := sha256.Sum256(payload)
	return Digest(sum[:DigestBytes])
}

// DigestOfContent identifies what a transaction is about: its branches, in order,
// each with its payload's digest. Lengths stand before the names, so no two
// contents have the same bytes (P16).
func DigestOfContent(branches int, branch func(i int) (participant string, payload Digest)) Digest {
	h := sha256.New()
	var length [4]byte
	for i := range branches {
		name, payload := branch(i)
		binary.BigEndian.PutUint32(length[:], uint32(len(name)))
		h.Write(length[:])
		h.Write([]byte(name))
		h.Write(payload[:])
	}
	return Digest(h.Sum(nil)[:DigestBytes])
}

// DigestFrom reads a digest off the wire; false if its length is wrong.
func DigestFrom(b []byte) (Digest, bool) {
	if len(b) != DigestBytes {
		return Digest{}, false
	}
	return Digest(b), true
}

// FieldError says which field is outside which limit. Limit is human text.
type FieldError struct {
	Field string
	Limit string
	Got   string
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s: %s, got %s", e.Field, e.Limit, e.Got)
}

// CheckID checks a transaction id: 1 to 48 bytes of [A-Za-z0-9._-], not only dots.
func CheckID(field, id string) error {
	const limit = "1 to 48 bytes of [A-Za-z0-9._-], not only dots"
	if id == "" || len(id) > MaxIDBytes {
		return &FieldError{field, limit, fmt.Sprintf("%d bytes", len(id))}
	}
	dots := true
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
			dots = false
		case c == '.':
		default:
			return &FieldError{field, limit, fmt.Sprintf("byte %q at %d", c, i)}
		}
	}
	if dots {
		return &FieldError{field, limit, "only dots"}
	}
	return nil
}

// CheckParticipant checks a participant's name: 1 to 64 bytes of [a-z0-9-].
func CheckParticipant(field, name string) error {
	const limit = "1 to 64 bytes of [a-z0-9-]"
	if name == "" || len(name) > MaxParticipantBytes {
		return &FieldError{field, limit, fmt.Sprintf("%d bytes", len(name))}
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return &FieldError{field, limit, fmt.Sprintf("byte %q at %d", c, i)}
		}
	}
	return nil
}
