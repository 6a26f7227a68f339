package cli

import (
	"io"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// columnGap stands between two columns.
const columnGap = "  "

// widths measures text as a terminal shows it, whatever the locale says.
var widths = &runewidth.Condition{EastAsianWidth: false, StrictEmojiNeutral: true}

// grid writes aligned columns. Cells come from the network, so nothing in them
// may steer a terminal. It is written when it is flushed.
type grid struct {
	w    io.Writer
	rows [][]string
}

func newGrid(w io.Writer, head ...string) *grid {
	g := &grid{w: w}
	if len(head) > 0 {
		g.row(head...)
	}
	return g
}

func (g *grid) row(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = printable(c)
	}
	g.rows = append(g.rows, row)
}

// flush writes the rows. A column is as wide as its widest cell that has a
// cell behind it; nothing stands behind the last cell of a row.
func (g *grid) flush() error {
	var columns []int
	for _, row := range g.rows {
		for i, c := range row[:max(len(row)-1, 0)] {
			if i == len(columns) {
				columns = append(columns, 0)
			}
			columns[i] = max(columns[i], widths.StringWidth(c))
		}
	}
	var b strings.Builder
	for _, row := range g.rows {
		var line strings.Builder
		for i, c := range row {
			line.WriteString(c)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", columns[i]-widths.StringWidth(c)) + columnGap)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	g.rows = nil
	_, err := io.WriteString(g.w, b.String())
	return err
}

// printable replaces by spaces what could steer a terminal: control characters,
// line separators, and the marks that turn the direction of the text around.
// Bytes that are no UTF-8 become the replacement character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, s)
}
