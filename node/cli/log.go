package cli

import (
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
)

var (
	logLevels  = []string{"trace", "debug", "info", "warn", "error"}
	logFormats = []string{"text", "json"}
)

// logFlags are --log-level and --log-format.
type logFlags struct{ level, format string }

func newLogFlags(cmd *cobra.Command) *logFlags {
	f := &logFlags{}
	cmd.Flags().StringVar(&f.level, "log-level", "info", "trace, debug, info, warn or error")
	cmd.Flags().StringVar(&f.format, "log-format", "text", "text, or json: one object a line")
	completeFlag(cmd, "log-level", words(logLevels...))
	completeFlag(cmd, "log-format", words(logFormats...))
	return f
}

// check names the flag that makes no sense.
func (f *logFlags) check() error {
	if l := hclog.LevelFromString(f.level); l == hclog.NoLevel || l == hclog.Off {
		return usageErrorf("--log-level: trace, debug, info, warn or error, got %q", f.level)
	}
	if f.format != "text" && f.format != "json" {
		return usageErrorf("--log-format: text or json, got %q", f.format)
	}
	return nil
}

// logger logs to w.
func (f *logFlags) logger(w io.Writer) (hclog.Logger, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return hclog.New(&hclog.LoggerOptions{
		Name: "concordat", Level: hclog.LevelFromString(f.level), Output: w, JSONFormat: f.format == "json",
	}), nil
}
