package sqlbranch

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// Owner is whose branches these are. Only branches of the very owner are ever
// touched; all others are counted and shown.
type Owner struct {
	Cluster     string
	Participant string
}

// Kinship says whose a prepared transaction of a database is.
type Kinship int

// The kinships.
const (
	// Foreign: not made by Concordat, or not readable as if it were.
	Foreign Kinship = iota
	// OtherCluster: a branch of another cluster.
	OtherCluster
	// OtherParticipant: a branch of this cluster, of another participant.
	OtherParticipant
	// Ours: a branch of this owner.
	Ours
)

const (
	gidMagic   = "concordat"
	xidMagic   = "cncd"
	gidFields  = 6
	tagBytes   = 9 // 12 characters in a gid
	xidCluster = 12
	xidName    = 16
	xidAttempt = 20
	bqualBytes = len(xidMagic) + xidCluster + xidName + xidAttempt
	base36     = 36
)

var text64 = base64.RawURLEncoding.Strict()

// clusterHash: a cluster's id may be longer than there is room for.
func (o Owner) clusterHash() [sha256.Size]byte {
	return sha256.Sum256([]byte("cluster\x00" + o.Cluster))
}

func (o Owner) nameHash() [sha256.Size]byte {
	return sha256.Sum256([]byte("participant\x00" + o.Participant))
}

func (o Owner) tag() string {
	h := o.clusterHash()
	return text64.EncodeToString(h[:tagBytes])
}

// GID is the branch's name in PostgreSQL's list: at most 195 of the 199 bytes
// that are allowed, all of [A-Za-z0-9._:-]. Only the id, the last field, may
// contain what is not a separator in the others; none contains a colon.
//
//	concordat:CLUSTER:PARTICIPANT:GENERATION.TERM.SEQUENCE:DIGEST:ID
func (o Owner) GID(ref participant.Ref) string {
	return o.GIDPrefix() + formatAttempt(ref.Attempt) + ":" + text64.EncodeToString(ref.Digest[:]) + ":" + ref.ID
}

// GIDPrefix is what the names of all of the owner's branches begin with, and of nobody else's.
func (o Owner) GIDPrefix() string { return gidMagic + ":" + o.tag() + ":" + o.Participant + ":" }

// ParseGID reads a name of PostgreSQL's list. The reference is only set if the
// branch is ours: what does not read back to the same name is foreign.
func (o Owner) ParseGID(gid string) (participant.Ref, Kinship) {
	fields := strings.Split(gid, ":")
	if len(fields) != gidFields || fields[0] != gidMagic || fsm.CheckParticipant("", fields[2]) != nil || fsm.CheckID("", fields[5]) != nil {
		return participant.Ref{}, Foreign
	}
	attempt, ok := parseAttempt(fields[3])
	digest, err := text64.DecodeString(fields[4])
	if !ok || err != nil || len(digest) != fsm.DigestBytes || len(fields[1]) != text64.EncodedLen(tagBytes) {
		return participant.Ref{}, Foreign
	}
	ref := participant.Ref{ID: fields[5], Attempt: attempt, Digest: rpc.Digest(digest)}
	switch {
	case fields[1] != o.tag():
		return participant.Ref{}, OtherCluster
	case fields[2] != o.Participant:
		return participant.Ref{}, OtherParticipant
	case o.GID(ref) != gid:
		return participant.Ref{}, Foreign
	}
	return ref, Ours
}

// XID is the branch's name in the list of MariaDB and MySQL, raw bytes: the
// global part is id and digest (at most 64 bytes), the branch part is ours
// (52 of 64), and unique within the global part.
func (o Owner) XID(ref participant.Ref) (gtrid, bqual []byte) {
	gtrid = append([]byte(ref.ID), ref.Digest[:]...)
	bqual = binary.BigEndian.AppendUint32(o.BqualPrefix(), ref.Attempt.Generation)
	bqual = binary.BigEndian.AppendUint64(bqual, ref.Attempt.Term)
	return gtrid, binary.BigEndian.AppendUint64(bqual, ref.Attempt.Sequence)
}

// BqualPrefix is what the branch parts of all of the owner's branches begin
// with, and of nobody else's.
func (o Owner) BqualPrefix() []byte {
	cluster, name := o.clusterHash(), o.nameHash()
	b := make([]byte, 0, bqualBytes)
	return append(append(append(b, xidMagic...), cluster[:xidCluster]...), name[:xidName]...)
}

// ParseXID reads a name of the list of MariaDB and MySQL.
func (o Owner) ParseXID(gtrid, bqual []byte) (participant.Ref, Kinship) {
	at := len(gtrid) - fsm.DigestBytes
	if len(bqual) != bqualBytes || !bytes.HasPrefix(bqual, []byte(xidMagic)) || at < 1 || fsm.CheckID("", string(gtrid[:at])) != nil {
		return participant.Ref{}, Foreign
	}
	mine, owner := o.BqualPrefix(), bqual[:bqualBytes-xidAttempt]
	switch cluster := len(xidMagic) + xidCluster; {
	case !bytes.Equal(owner[:cluster], mine[:cluster]):
		return participant.Ref{}, OtherCluster
	case !bytes.Equal(owner, mine):
		return participant.Ref{}, OtherParticipant
	}
	a := bqual[bqualBytes-xidAttempt:]
	return participant.Ref{
		ID: string(gtrid[:at]), Digest: rpc.Digest(gtrid[at:]),
		Attempt: rpc.Attempt{
			Generation: binary.BigEndian.Uint32(a), Term: binary.BigEndian.Uint64(a[4:]), Sequence: binary.BigEndian.Uint64(a[12:]),
		},
	}, Ours
}

// LockKey is a number for an advisory lock on one id of the owner's participant.
func (o Owner) LockKey(id string) int64 {
	sum := sha256.Sum256([]byte(gidMagic + "\x00" + o.Participant + "\x00" + id))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// SessionName is what the session that works on a branch calls itself, in at
// most 63 bytes, so that another endpoint of the participant finds it.
func (o Owner) SessionName(ref participant.Ref) string {
	sum := sha256.Sum256([]byte(o.GIDPrefix() + ref.ID))
	return gidMagic + ":" + formatAttempt(ref.Attempt) + ":" + text64.EncodeToString(sum[:tagBytes])
}

func formatAttempt(a rpc.Attempt) string {
	f := func(n uint64) string { return strconv.FormatUint(n, base36) }
	return f(uint64(a.Generation)) + "." + f(a.Term) + "." + f(a.Sequence)
}

// parseAttempt accepts only what formatAttempt writes.
func parseAttempt(s string) (rpc.Attempt, bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return rpc.Attempt{}, false
	}
	generation, err1 := strconv.ParseUint(parts[0], base36, 32)
	term, err2 := strconv.ParseUint(parts[1], base36, 64)
	sequence, err3 := strconv.ParseUint(parts[2], base36, 64)
	a := rpc.Attempt{Generation: uint32(generation), Term: term, Sequence: sequence}
	return a, err1 == nil && err2 == nil && err3 == nil && formatAttempt(a) == s
}
