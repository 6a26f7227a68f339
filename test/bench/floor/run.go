package floor

import (
	"context"
	"flag"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
)

// Roles that Run plays.
const (
	RoleNode        = "floor-node"
	RoleParticipant = "floor-participant"
	RoleEcho        = "echo"
)

// nodeConfig is the command line of a process.
type nodeConfig struct {
	name, dir, listen   string
	peers, participants []string
}

// Run plays one role until ctx ends. Nothing is put in order then: the process
// is to end.
func Run(ctx context.Context, role string, args []string) error {
	var c nodeConfig
	var peers, participants string
	flags := flag.NewFlagSet(role, flag.ContinueOnError)
	flags.StringVar(&c.name, "name", "", "of the node")
	flags.StringVar(&c.dir, "dir", "", "where the node keeps its log")
	flags.StringVar(&c.listen, "listen", "", "where gRPC is served")
	flags.StringVar(&peers, "peers", "", "name=address, of Raft, of all nodes")
	flags.StringVar(&participants, "participants", "", "addresses")
	if err := flags.Parse(args); err != nil {
		return err
	}
	c.peers, c.participants = strings.Split(peers, ","), split(participants)
	var offered *grpc.ServiceDesc
	switch role {
	case RoleNode:
		n, err := newNode(c)
		if err != nil {
			return err
		}
		offered = n.service()
	case RoleParticipant:
		offered = (&participant{}).service()
	case RoleEcho:
		offered = echoed()
	default:
		return fmt.Errorf("no role %q", role)
	}
	l, err := net.Listen("tcp", c.listen)
	if err != nil {
		return err
	}
	g := grpc.NewServer()
	g.RegisterService(offered, nil)
	defer context.AfterFunc(ctx, g.Stop)()
	return g.Serve(l)
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
