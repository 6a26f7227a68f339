package load

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/concordat-tx/concordat/test/history"
)

// journals writes each text as a journal and reads them all.
func journals(t *testing.T, texts ...string) (*Record, error) {
	t.Helper()
	var paths []string
	for i, text := range texts {
		path := filepath.Join(t.TempDir(), string(rune('a'+i)))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return Replay(paths...)
}

const killed = `{"call":{"id":"t1","kind":"lists","at":10,"ops":[{"p":"p1","do":"append","k":"x","v":7},{"p":"p2","do":"get","k":"y"}],"since":3}}
{"call":{"id":"t2","kind":"set","at":11,"ops":[{"p":"p1","do":"put","k":"r","v":5}]}}
{"answer":{"id":"t2","at":12,"outcome":"COMMIT","reads":[]}}
{"call":{"id":"t3","kind":"lis`

// A killed client leaves an unknown outcome; whoever learns it closes the history.
func TestReplayOfAKilledClient(t *testing.T) {
	r, err := journals(t, killed)
	if err != nil {
		t.Fatal(err)
	}
	unknown := r.Unknown()
	if len(r.Txns) != 2 || len(unknown) != 1 || unknown[0].ID != "t1" || unknown[0].Since != 3 {
		t.Fatalf("%d transactions, unknown: %v", len(r.Txns), unknown)
	}
	if h := r.Lists(); len(h) != 1 || h[0].Outcome != history.Unknown || len(h[0].Ops) != 1 {
		t.Fatalf("history: %v", h)
	}
	r, err = journals(t, killed, `{"answer":{"id":"t1","at":30,"outcome":"COMMIT","reads":[[1,2]]}}`+"\n"+
		`{"call":{"id":"t4","kind":"peek","at":13,"ops":[{"p":"p1","do":"get","k":"r"}]}}`+"\n"+
		`{"answer":{"id":"t4","at":14,"outcome":"COMMIT","reads":[[5]]}}`+"\n")
	if err != nil {
		t.Fatal(err)
	}
	h := r.Lists()
	if len(r.Unknown()) != 0 || len(h) != 1 || h[0].Return != 30 || !slices.Equal(h[0].Ops[1].List, []int64{1, 2}) || h[0].Ops[0].Key != "p1/x" {
		t.Fatalf("history: %v", h)
	}
	if !r.Txns["t1"].Resolved() || r.Txns["t2"].Resolved() || !r.Txns["t1"].Open(20) || r.Txns["t1"].Open(31) || r.Txns["t2"].Open(10) {
		t.Error("t1 was open until 30 and was learned elsewhere, t2 was not")
	}
	if ops := r.Registers(); len(ops) != 2 || !history.CheckRegisters(ops, 1e9).OK() {
		t.Errorf("registers: %v", ops)
	}
}

func TestContradictions(t *testing.T) {
	call := `{"call":{"id":"t","kind":"lists","at":1,"ops":[{"p":"p1","do":"get","k":"x"}]}}` + "\n"
	answer := func(outcome, rest string) string {
		return `{"answer":{"id":"t","at":2,"outcome":"` + outcome + `",` + rest + `}}` + "\n"
	}
	for name, test := range map[string]struct {
		text string
		want int
	}{
		"told twice":            {answer("COMMIT", `"reads":[[1]]`) + answer("COMMIT", `"reads":[[1]]`), 0},
		"told later":            {answer("UNKNOWN", `"reads":null`) + answer("ABORT", `"reads":null`), 0},
		"without the results":   {answer("COMMIT", `"reads":[[1]]`) + answer("COMMIT", `"reads":null`), 0},
		"decision changes":      {answer("COMMIT", `"reads":[[1]]`) + answer("ABORT", `"reads":null`), 1},
		"results change":        {answer("COMMIT", `"reads":[[1]]`) + answer("COMMIT", `"reads":[[1,2]]`), 1},
		"results make no sense": {answer("COMMIT", `"why":"p1 gave no result","reads":null`), 1},
	} {
		r, err := journals(t, call+test.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Contradictions(); len(got) != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, text := range map[string]string{
		"an answer to nothing": answer("COMMIT", `"reads":[]`),
		"an id twice":          call + call,
		"no JSON":              "x\n",
	} {
		if _, err := journals(t, text); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestWrongSums(t *testing.T) {
	audit := func(id, reads string) string {
		return `{"call":{"id":"` + id + `","kind":"audit","at":1,"ops":[]}}` + "\n" + `{"answer":{"id":"` + id + `","at":2,"outcome":"COMMIT","reads":` + reads + `}}` + "\n"
	}
	r, err := journals(t, audit("a", "[[3],[4]]")+audit("b", "[[3],[5]]")+audit("c", "null"))
	if err != nil {
		t.Fatal(err)
	}
	if audits, wrong := r.WrongSums(7); audits != 2 || len(wrong) != 1 {
		t.Errorf("%d audits, wrong: %v", audits, wrong)
	}
}
