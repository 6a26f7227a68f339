package cli

import (
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
)

// logFlag is --log-level.
func logFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("log-level", "info", "trace, debug, info, warn or error")
}

// newLogger logs to w.
func newLogger(w io.Writer, level string) (hclog.Logger, error) {
	l := hclog.LevelFromString(level)
	if l == hclog.NoLevel || l == hclog.Off {
		return nil, usageErrorf("--log-level: trace, debug, info, warn or error, got %q", level)
	}
	return hclog.New(&hclog.LoggerOptions{Name: "concordat", Level: l, Output: w}), nil
}
