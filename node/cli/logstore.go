package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/cluster"
)

// logStoreVariable is --log-store of a server that is not given the flag.
const logStoreVariable = "CONCORDAT_LOG_STORE"

// logStoreFlag is a flag that names a log store.
type logStoreFlag struct{ to *cluster.LogStore }

// String, Set and Type make it a flag value.
func (f logStoreFlag) String() string {
	if f.to == nil {
		return ""
	}
	return string(*f.to)
}

// Set checks and takes the name.
func (f logStoreFlag) Set(name string) error {
	if !slices.Contains(cluster.LogStores, cluster.LogStore(name)) {
		return fmt.Errorf("must be bolt or wal, got %q", name)
	}
	*f.to = cluster.LogStore(name)
	return nil
}

// Type is the word for the value in the help.
func (logStoreFlag) Type() string { return "store" }

func addLogStoreFlag(cmd *cobra.Command, name, usage string, to *cluster.LogStore) {
	cmd.Flags().Var(logStoreFlag{to}, name, usage)
	var names []string
	for _, s := range cluster.LogStores {
		names = append(names, string(s))
	}
	completeFlag(cmd, name, words(names...))
}

// logStoreFromEnv is for a flag that was not given.
func (a *app) logStoreFromEnv(cmd *cobra.Command, flag string, to *cluster.LogStore) error {
	name := a.env(logStoreVariable)
	if name == "" || cmd.Flags().Changed(flag) {
		return nil
	}
	if err := (logStoreFlag{to}).Set(name); err != nil {
		return usageErrorf("%s, the environment's --%s: %w", logStoreVariable, flag, err)
	}
	return nil
}
