package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
)

const (
	// nodesVariable names the nodes for every client command.
	nodesVariable = "CONCORDAT_NODES"
	// defaultNode is where a server listens if it is told nothing else.
	defaultNode = "127.0.0.1:7001"
)

// clientFlags are the flags of every command that talks to a cluster.
type clientFlags struct {
	app      *app
	nodes    []string
	deadline time.Duration
}

func (a *app) clientFlags(cmd *cobra.Command) *clientFlags {
	f := &clientFlags{app: a}
	a.nodesFlag(cmd, &f.nodes)
	cmd.Flags().DurationVar(&f.deadline, "deadline", rpc.DefaultDeadline, "how long to wait for an answer")
	return f
}

func (a *app) nodesFlag(cmd *cobra.Command, nodes *[]string) {
	cmd.Flags().StringSliceVar(nodes, "nodes", nil,
		"addresses of some or all nodes, host:port,… (default: $"+nodesVariable+", or "+defaultNode+")")
}

// nodesOr are the nodes given, those of the environment, or the default.
func (a *app) nodesOr(nodes []string) []string {
	if len(nodes) == 0 {
		if v := a.env(nodesVariable); v != "" {
			nodes = strings.Split(v, ",")
		} else {
			nodes = []string{defaultNode}
		}
	}
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, strings.TrimSpace(n))
	}
	return out
}

// dial makes the client for a list of nodes; a bad address is bad usage.
func (a *app) dial(nodes []string) (*rpc.Client, error) {
	client, err := rpc.NewClient(a.nodesOr(nodes))
	if err != nil {
		return nil, usageErrorf("--nodes (or %s): %w", nodesVariable, err)
	}
	return client, nil
}

// with runs f with a client and a context that ends at the deadline.
func (f *clientFlags) with(ctx context.Context, run func(ctx context.Context, client *rpc.Client) error) error {
	if f.deadline <= 0 {
		return usageErrorf("--deadline: must be more than 0, got %s", f.deadline)
	}
	client, err := f.app.dial(f.nodes)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // nothing is under way any more
	ctx, cancel := context.WithTimeout(ctx, f.deadline)
	defer cancel()
	return run(ctx, client)
}
