package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
)

// The forms of -o.
const (
	formatTable = "table" // for people: not stable
	formatJSON  = "json"  // one document, indented
	formatLines = "jsonl" // one object a line
)

var formats = []string{formatTable, formatJSON, formatLines}

// output is the flag -o.
type output struct {
	app    *app
	format string
}

func (a *app) outputFlag(cmd *cobra.Command) *output {
	o := &output{app: a, format: formatTable}
	cmd.Flags().VarP(o, "output", "o", "table, json (one document) or jsonl (one object a line)")
	completeFlag(cmd, "output", words(formats...))
	return o
}

// String, Set and Type make output a flag value.
func (o *output) String() string { return o.format }

// Set checks and takes the format.
func (o *output) Set(format string) error {
	if !slices.Contains(formats, format) {
		return fmt.Errorf("must be table or json or jsonl")
	}
	o.format = format
	return nil
}

// Type is the word for the value in the help.
func (o *output) Type() string { return "format" }

// machine reports whether a program reads the answer.
func (o *output) machine() bool { return o.format != formatTable }

// print writes value as JSON, or calls table.
func (o *output) print(value any, table func(io.Writer) error) error {
	if o.machine() {
		return o.encode(value)
	}
	return table(o.app.stdout)
}

// printList is print for an answer of several: jsonl has a line for each of items.
func printList[T any](o *output, value any, items []T, table func(io.Writer) error) error {
	if o.format != formatLines {
		return o.print(value, table)
	}
	for _, item := range items {
		if err := o.encode(item); err != nil {
			return err
		}
	}
	return nil
}

// encode writes one object: with jsonl on one line.
func (o *output) encode(value any) error {
	enc := json.NewEncoder(o.app.stdout)
	enc.SetEscapeHTML(false)
	if o.format == formatJSON {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(value)
}
