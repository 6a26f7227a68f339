package alerting

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

// FuzzFile reads a file of alerts made of chance. It is refused whole, and the
// log names it; or it is read whole, and comes back when it is written again.
func FuzzFile(f *testing.F) {
	const (
		told  = `{"kind":"in_doubt","severity":2,"source":"participant/a","starts_at":"2026-01-02T03:04:05.006Z","summary":"s","action":"a","transactions":["x"],"count":1,"state":2}`
		over  = `{"kind":"disk","severity":1,"source":"participant/a","starts_at":"2026-01-02T03:04:05Z","ends_at":"2026-01-02T03:05:05Z","summary":"s","action":"a","state":3}`
		whole = `{"format":1,"alerts":[` + told + `,` + over + `]}`
	)
	for _, text := range []string{
		whole, `{"format":1,"alerts":null}`, ``, `null`, `{}`, `[]`, `{"format":2}`, whole[:80], whole + whole, whole + "x",
		`{"format":1,"alerts":[` + told + `,` + told + `]}`,
		strings.Replace(whole, `"state":3`, `"state":4`, 1), strings.Replace(whole, `"state":2`, `"state":3`, 1),
		strings.Replace(whole, `"state":3`, `"state":2`, 1), strings.Replace(whole, `"kind":"disk"`, `"kind":""`, 1),
		strings.Replace(whole, `"2026-01-02T03:04:05Z"`, `"0001-01-01T00:00:00Z"`, 1),
		strings.Replace(whole, `"severity":1`, `"severity":-7`, 1),
		whole + strings.Repeat(" ", maxFile-len(whole)) + "x",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "alerts.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		items, err := load(path)
		var log bytes.Buffer
		book := OpenLocal(LocalConfig{Path: path, Tells: true, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
		shown := book.Show()
		if err != nil {
			if len(items) != 0 || len(shown) != 0 {
				t.Errorf("%v, and %d alerts of it were read", err, max(len(items), len(shown)))
			}
			if !strings.Contains(log.String(), path) {
				t.Errorf("the log does not name the file: %s", log.String())
			}
			return
		}
		if !json.Valid(text) || len(shown) != len(items) {
			t.Errorf("read in part: %d of %d alerts of %q", len(shown), len(items), text)
		}
		for _, i := range shown {
			if i.Standing() != i.EndsAt.IsZero() {
				t.Errorf("an alert in state %d ends at %s", i.State, i.EndsAt)
			}
			if p := i.Proto(); p.GetName() != i.Kind || len(p.GetTransactions()) > MaxTransactions || !utf8.ValidString(i.Text()) {
				t.Errorf("%+v is shown as %v, %q", i, p, i.Text())
			}
		}
		book.dirty = true
		book.save()
		if again := OpenLocal(LocalConfig{Path: path, Tells: true}).Show(); !reflect.DeepEqual(again, shown) {
			t.Errorf("%+v came back as %+v", shown, again)
		}
	})
}
