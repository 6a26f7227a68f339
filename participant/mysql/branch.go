package mysql

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc"
)

// xidFormat is shown by XA RECOVER and is no part of a branch's identity: the
// database ignores it. It says at a glance whose branch it may be.
const xidFormat = 0x434E4344 // "CNCD"

// xid is a branch's name in SQL, where parameters are refused.
func (m *Manager) xid(branch participant.Ref) string {
	gtrid, bqual := m.owner.Load().XID(branch)
	return xidLiteral(gtrid, bqual, xidFormat)
}

func xidLiteral(gtrid, bqual []byte, format int64) string {
	return fmt.Sprintf("X'%x',X'%x',%d", gtrid, bqual, format)
}

// lockName is of the user-level lock that the session of a branch holds as long
// as it lives: who holds it is the branch's owner, beyond mistake, and nobody
// else is ever ended in its place.
func (m *Manager) lockName(branch participant.Ref) string {
	gtrid, bqual := m.owner.Load().XID(branch)
	sum := sha256.Sum256(slices.Concat(bqual, gtrid)) // bqual has one length
	return "concordat:" + hex.EncodeToString(sum[:16])
}

// list is XA RECOVER: the prepared branches of the participant, of one id, or
// of every id if id is empty.
func (m *Manager) list(ctx context.Context, id string) ([]participant.Ref, error) {
	refs := []participant.Ref{}
	err := m.recover(ctx, func(p Prepared) {
		if p.Kinship == sqlbranch.Ours && (id == "" || p.Ref.ID == id) {
			refs = append(refs, p.Ref)
		}
	})
	return refs, err
}

// writeBranch names the branch that writes the entry's row, within the row.
func writeBranch(ref participant.Ref) []byte {
	b := binary.BigEndian.AppendUint32(nil, ref.Attempt.Generation)
	b = binary.BigEndian.AppendUint64(b, ref.Attempt.Term)
	b = binary.BigEndian.AppendUint64(b, ref.Attempt.Sequence)
	return append(b, ref.Digest[:]...)
}

// readBranch is the zero reference if no branch has written the row.
func readBranch(id string, b []byte) participant.Ref {
	ref := participant.Ref{ID: id}
	if len(b) != 20+len(ref.Digest) {
		return participant.Ref{}
	}
	ref.Attempt = rpc.Attempt{
		Generation: binary.BigEndian.Uint32(b), Term: binary.BigEndian.Uint64(b[4:]), Sequence: binary.BigEndian.Uint64(b[12:]),
	}
	copy(ref.Digest[:], b[20:])
	return ref
}
