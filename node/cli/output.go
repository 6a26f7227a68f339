package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
)

// output is the flag -o.
type output struct {
	app    *app
	format string
}

func (a *app) outputFlag(cmd *cobra.Command) *output {
	o := &output{app: a, format: "table"}
	cmd.Flags().VarP(o, "output", "o", "table or json")
	return o
}

// String, Set and Type make output a flag value.
func (o *output) String() string { return o.format }

// Set checks and takes the format.
func (o *output) Set(format string) error {
	if format != "table" && format != "json" {
		return fmt.Errorf("must be table or json")
	}
	o.format = format
	return nil
}

// Type is the word for the value in the help.
func (o *output) Type() string { return "format" }

// print writes value as JSON, or calls table.
func (o *output) print(value any, table func(io.Writer) error) error {
	if o.format == "json" {
		enc := json.NewEncoder(o.app.stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	}
	return table(o.app.stdout)
}

// grid writes aligned columns. Cells come from the network, so nothing in them
// may steer a terminal.
type grid struct{ w *tabwriter.Writer }

func newGrid(w io.Writer, head ...string) *grid {
	g := &grid{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(head) > 0 {
		g.row(head...)
	}
	return g
}

func (g *grid) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	fmt.Fprintln(g.w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

func (g *grid) flush() error { return g.w.Flush() }

// printable replaces control characters by spaces.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
