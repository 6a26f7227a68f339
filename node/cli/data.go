package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/cluster"
)

func newDataCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "data",
		Short:   "Work on the data directory of a node that is stopped",
		Example: "  concordat data migrate-log --data-dir data/n1 --to wal",
	})
	cmd.AddCommand(newMigrateLogCommand(a))
	return cmd
}

func newMigrateLogCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate-log --data-dir DIR --to STORE",
		Short: "Move a stopped node's log to another log store",
		Long: `Move a stopped node's log, its term and its vote to another log store. They are
written beside the old ones, read back and compared, one by one; then the
directory changes over, in one step. Until then the node starts as before. What
was interrupted is simply run again. Start the node with --log-store STORE from
then on; the nodes of a cluster may have different ones.

The former log stays in the directory under a name that ends in .old, unless
--remove-old is given. It is out of date as soon as the node has run: never put
it back, a node that has forgotten a vote may break the cluster.`,
		Example: `  concordat data migrate-log --data-dir data/n1 --to wal
  concordat data migrate-log --data-dir data/n1 --to bolt --remove-old`,
		Args: usageArgs(cobra.NoArgs),
	}
	m := cluster.Migration{SegmentBytes: cluster.DefaultConfig().SegmentBytes}
	flags := cmd.Flags()
	flags.StringVar(&m.DataDir, "data-dir", "", "where the node keeps its log and snapshots")
	addLogStoreFlag(cmd, "to", "the log store to move to: bolt or wal", &m.To)
	flags.BoolVar(&m.RemoveOld, "remove-old", false, "remove the former log instead of renaming it")
	segmentFlag(cmd, &m.SegmentBytes)
	out, log := a.outputFlag(cmd), newLogFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case m.DataDir == "":
			return usageErrorf("--data-dir: say whose log is to be moved")
		case m.To == "":
			return usageErrorf("--to: say where the log is to be moved: bolt or wal")
		}
		logger, err := log.logger(a.stderr)
		if err != nil {
			return err
		}
		m.Logger = logger
		done, err := cluster.MigrateLog(cmd.Context(), m)
		if err != nil {
			return err
		}
		return out.print(migratedJSON{
			Node: done.Node, From: done.From, To: done.To, First: done.First, Last: done.Last, Keys: done.Keys,
			Bytes: done.NewBytes, FormerBytes: done.OldBytes, Kept: done.Kept, Before: done.Before,
		}, func(w io.Writer) error {
			_, err := fmt.Fprint(w, migrated(m, done))
			return err
		})
	}
	return cmd
}

// migratedJSON is a migration as it is printed.
type migratedJSON struct {
	Node        string           `json:"node"`
	From        cluster.LogStore `json:"from"`
	To          cluster.LogStore `json:"to"`
	First       uint64           `json:"first,string"`
	Last        uint64           `json:"last,string"`
	Keys        int              `json:"keys"`
	Bytes       int64            `json:"bytes,string"`
	FormerBytes int64            `json:"former_bytes,string"`
	Kept        string           `json:"kept"`
	Before      bool             `json:"before"`
}

// migrated says in words what was done, and what to do next.
func migrated(m cluster.Migration, d *cluster.Migrated) string {
	text := fmt.Sprintf("The log of node %s is in log store %s already.\n", d.Node, d.To)
	if !d.Before {
		held := "it is empty"
		if d.First > 0 {
			held = fmt.Sprintf("entries %d to %d", d.First, d.Last)
		}
		text = fmt.Sprintf("The log of node %s is in log store %s now: %s, read back and compared; %d bytes, before %d.\n", d.Node, d.To, held, d.NewBytes, d.OldBytes)
	}
	if d.Kept != "" {
		text += fmt.Sprintf("The former log is kept as %s; do not put it back once the node has run.\n", d.Kept)
	}
	return text + fmt.Sprintf("Start the node with --log-store %s.\n", m.To)
}
