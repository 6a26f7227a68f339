package drive

import (
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Refusal turns an error that no repetition can mend into the leader's own
// reason to abort. It is no vote: the leader may abort at will before it decides.
func Refusal(err error) *fsm.Reason {
	e := rpc.FromError(err)
	switch e.Reason {
	case rpc.ReasonWrongIncarnation:
		return &fsm.Reason{Code: fsm.ReasonCode(pb.Reason_INCARNATION), Message: CutReason(e.Message)}
	case rpc.ReasonWrongCluster, rpc.ReasonWrongGeneration, rpc.ReasonWrongParticipant, rpc.ReasonInvalidArgument, rpc.ReasonBelowFloor:
		return &fsm.Reason{Code: fsm.ReasonCode(pb.Reason_FAILED), Message: CutReason(e.Message)}
	}
	return nil
}
