//go:build !failpoints

package cluster

import (
	"net"

	"github.com/hashicorp/raft"
)

// The points of Raft's messages (see fsm/failpoint) are in another build.

func watchDialed(conn net.Conn) net.Conn { return conn }

func watchAccepted(conn net.Conn) net.Conn { return conn }

func appended(*raft.AppendEntriesRequest) {}

func voted(err error) error { return err }
