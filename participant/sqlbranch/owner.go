package sqlbranch

import "github.com/concordat-tx/concordat/rpc/pb"

// Proto is the kinship as a census tells it.
func (k Kinship) Proto() pb.PreparedTransaction_Owner {
	switch k {
	case Ours:
		return pb.PreparedTransaction_OURS
	case OtherParticipant:
		return pb.PreparedTransaction_OTHER_PARTICIPANT
	case OtherCluster:
		return pb.PreparedTransaction_OTHER_CLUSTER
	}
	return pb.PreparedTransaction_FOREIGN
}
