package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func newKVCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "kv",
		Short:   "Read the data of embedded KV participants",
		Example: "  concordat kv get seats flight/LH1",
	})
	cmd.AddCommand(newKVGetCommand(a))
	return cmd
}

func newKVGetCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get NAME KEY…",
		Short: "Read keys of a KV participant at one point in time",
		Long: `Read keys of the KV participant NAME at one point in time. A key that a prepared
transaction is about to change is waited for, until the deadline; --stale reads
what was committed last and does not wait.`,
		Example: `  concordat kv get seats flight/LH1
  concordat kv get payments acct/ann acct/bob -o json
  concordat kv get seats flight/LH1 --stale`,
		Args:              usageArgs(cobra.MinimumNArgs(2)),
		ValidArgsFunction: first(a.participantNames()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	stale := cmd.Flags().Bool("stale", false, "do not wait for prepared transactions")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			read := c.ReadKV
			if *stale {
				read = c.ReadKVStale
			}
			items, err := read(ctx, args[0], args[1:]...)
			if err != nil {
				return err
			}
			objects := keyValueObjects(items)
			return printList(out, object{"items": objects}, objects, func(w io.Writer) error { return keyValueTable(w, items) })
		})
	}
	return cmd
}

func keyValueObjects(items []*pb.KeyValue) []object {
	list := make([]object, 0, len(items))
	for _, item := range items {
		o := object{"key": item.GetKey(), "exists": item.GetExists()}
		o.SetBytes("value", item.GetValueJson())
		list = append(list, o)
	}
	return list
}

func keyValueTable(w io.Writer, items []*pb.KeyValue) error {
	g := newGrid(w, "KEY", "VALUE")
	for _, item := range items {
		value := "(does not exist)"
		if item.GetExists() {
			value = string(item.GetValueJson())
		}
		g.row(item.GetKey(), value)
	}
	return g.flush()
}
