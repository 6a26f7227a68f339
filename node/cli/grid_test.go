package cli

import (
	"bytes"
	"testing"
	"time"
)

func TestGrid(t *testing.T) {
	for name, tc := range map[string]struct {
		rows [][]string
		want string
	}{
		"columns are as wide as their widest cell": {
			[][]string{{"A", "B"}, {"long one", "x"}, {"", "y"}},
			"A         B\nlong one  x\n          y\n",
		},
		"a wide name": {
			[][]string{{"KEY", "VALUE"}, {"席", "1"}, {"ab", "2"}},
			"KEY  VALUE\n席   1\nab   2\n",
		},
		"what combines takes no room": {
			[][]string{{"e\u0301", "1"}, {"ee", "2"}},
			"e\u0301   1\nee  2\n",
		},
		"nothing steers the terminal": {
			[][]string{{"\x1b[2J", "\u009b31m", "a\nb", "x\u202ey", "\u2028", "\xff"}},
			" [2J   31m  a b  x y     \ufffd\n",
		},
		"the last cell of a short row does not widen its column": {
			[][]string{{"A", "B"}, {"no answer from there"}},
			"A  B\nno answer from there\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			g := newGrid(&b)
			for _, row := range tc.rows {
				g.row(row...)
			}
			if err := g.flush(); err != nil || b.String() != tc.want {
				t.Errorf("got %q, want %q (%v)", b.String(), tc.want, err)
			}
		})
	}
}

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                          "0s",
		1234 * time.Millisecond:               "1.23s",
		12*time.Second + 300*time.Millisecond: "12s",
		90 * time.Second:                      "1m30s",
		25*time.Hour + 10*time.Minute + 30:    "25h10m",
		80 * time.Hour:                        "3d",
	} {
		if got := durationText(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}
