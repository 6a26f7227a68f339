package statements

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
)

func TestParse(t *testing.T) {
	got, err := Parse([]byte(` {"statements": [{"rows": 1, "sql": "update a set b = $1", "args": ["x", -9223372036854775808, true, null, "1.50"]}, {"sql": "SELECT 1", "args": []}]} `))
	one := int64(1)
	want := []Statement{
		{SQL: "update a set b = $1", Args: []any{"x", int64(-1 << 63), true, nil, "1.50"}, Rows: &one},
		{SQL: "SELECT 1"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	sql := func(s string) string { return fmt.Sprintf(`{"statements":[{"sql":%q}]}`, s) }
	many := func(n int, what string) string { return strings.TrimSuffix(strings.Repeat(what+",", n), ",") }
	tests := map[string]struct{ payload, field string }{
		"nothing":          {"", "payload"},
		"no JSON":          {"{", "payload"},
		"bad UTF-8":        {"{\"statements\":[{\"sql\":\"SELECT '\xff'\"}]}", "payload"},
		"two values":       {sql("SELECT 1") + "{}", "payload"},
		"a list":           {"[]", "payload"},
		"no statements":    {"{}", "statements"},
		"0 statements":     {`{"statements":[]}`, "statements"},
		"65 statements":    {`{"statements":[` + many(65, `{"sql":"SELECT 1"}`) + `]}`, "statements"},
		"another field":    {`{"statements":[{"sql":"SELECT 1"}],"ops":[]}`, "ops"},
		"a field too many": {`{"statements":[{"sql":"SELECT 1","row":1}]}`, "statements[0].row"},
		"a field twice":    {`{"statements":[{"sql":"SELECT 1","sql":"SELECT 2"}]}`, "statements[0].sql"},
		"no sql":           {`{"statements":[{"args":[]}]}`, "statements[0].sql"},
		"empty sql":        {sql(""), "statements[0].sql"},
		"long sql":         {sql("SELECT '" + strings.Repeat("x", MaxSQLBytes) + "'"), "statements[0].sql"},
		"a zero byte":      {`{"statements":[{"sql":"SELECT '\u0000'"}]}`, "statements[0].sql"},
		"a zero argument":  {`{"statements":[{"sql":"SELECT 1","args":["a\u0000"]}]}`, "statements[0].args[0]"},
		"257 arguments":    {`{"statements":[{"sql":"SELECT 1","args":[` + many(257, "1") + `]}]}`, "statements[0].args"},
		"a float":          {`{"statements":[{"sql":"SELECT 1","args":[1,1.5]}]}`, "statements[0].args[1]"},
		"an exponent":      {`{"statements":[{"sql":"SELECT 1","args":[1e3]}]}`, "statements[0].args[0]"},
		"a large integer":  {`{"statements":[{"sql":"SELECT 1","args":[9223372036854775808]}]}`, "statements[0].args[0]"},
		"a list as arg":    {`{"statements":[{"sql":"SELECT 1","args":[[1]]}]}`, "statements[0].args[0]"},
		"an object as arg": {`{"statements":[{"sql":"SELECT 1","args":[{"a":1}]}]}`, "statements[0].args[0]"},
		"negative rows":    {`{"statements":[{"sql":"SELECT 1","rows":-1}]}`, "statements[0].rows"},
		"rows as text":     {`{"statements":[{"sql":"SELECT 1","rows":"1"}]}`, "statements[0].rows"},
		"no rows":          {`{"statements":[{"sql":"SELECT 1","rows":null}]}`, "statements[0].rows"},
		"too large":        {sql("SELECT 1" + strings.Repeat(" ", fsm.MaxPayloadBytes)), "payload"},
	}
	for name, test := range tests {
		_, err := Parse([]byte(test.payload))
		fe, ok := errors.AsType[*fsm.FieldError](err)
		if !ok || fe.Field != test.field {
			t.Errorf("%s: %v, want an error about %s", name, err, test.field)
		}
	}
}

func TestFirstWord(t *testing.T) {
	for sql, mend := range map[string]string{
		"SELECT 1": "", " \n\tselect 1": "", "((SELECT 1))": "", "-- note\nUPDATE a SET b=1": "", "/* a */ /**/ DELETE FROM a": "",
		"With x AS (SELECT 1) SELECT 1": "", "# note\nREPLACE INTO a VALUES (1)": "", "values(1)": "", "CALL f()": "", "TABLE a": "",
		"COMMIT": mendControl, "commit;": mendControl, "/**/COMMIT": mendControl, "--\nCOMMIT": mendControl, "BEGIN": mendControl,
		"PREPARE TRANSACTION 'a'": mendControl, "XA START 'a'": mendControl, "(COMMIT)": mendControl, "SAVEPOINT a": mendControl,
		"START TRANSACTION": mendControl, "create temp table a (b int)": mendSchema, "TRUNCATE a": mendSchema, "DROP TABLE a": mendSchema,
		"LOCK TABLES a WRITE": mendLock, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE": mendSession, "NOTIFY a": mendSession,
		"DO $$BEGIN COMMIT; END$$": mendOther, "COPY a FROM STDIN": mendOther, "LOAD DATA INFILE 'a'": mendOther, "SELECTED": mendOther,
		"": mendOther, "-- only a note": mendOther, "/* open SELECT 1": mendOther, ";SELECT 1": mendOther, "1": mendOther, "ＣOMMIT": mendOther,
		"/*!50000 COMMIT */": mendHidden, "/* /* */ SET a= -- */\nVALUES(1)": mendHidden, "/* a /* b */ */ DELETE FROM a": mendHidden, "/* a */ /*M!100 COMMIT */ SELECT 1": mendHidden,
	} {
		err := supported("f", sql)
		u, _ := errors.AsType[*UnsupportedError](err)
		if (err == nil) != (mend == "") || mend != "" && (u == nil || u.Mend != mend || !strings.Contains(err.Error(), mend)) {
			t.Errorf("%q: %v, want %q", sql, err, mend)
		}
	}
}

func TestEncodeReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[^\x00]{0,20}`)
		arg := rapid.OneOf(
			rapid.Map(text, func(s string) any { return s }), rapid.Map(rapid.Int64(), func(n int64) any { return n }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Just[any](nil))
		var list []Statement
		for range rapid.IntRange(1, 4).Draw(t, "statements") {
			s := Statement{SQL: "SELECT " + text.Draw(t, "sql")}
			if args := rapid.SliceOfN(arg, 0, 4).Draw(t, "args"); len(args) > 0 {
				s.Args = args
			}
			if rapid.Bool().Draw(t, "counted") {
				n := rapid.Int64Range(0, 1<<40).Draw(t, "rows")
				s.Rows = &n
			}
			list = append(list, s)
		}
		payload, err := Encode(list...)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(payload); err != nil || !reflect.DeepEqual(got, list) {
			t.Fatalf("%s reads back as %+v, %v", payload, got, err)
		}
	})
	if _, err := Encode(Statement{SQL: "SELECT $1", Args: []any{1.5}}); err == nil {
		t.Error("a float was taken")
	}
}

func TestResults(t *testing.T) {
	var none Results
	if b, err := none.Encode(); b != nil || err != nil {
		t.Errorf("no rows: %q, %v", b, err)
	}
	var r Results
	for _, err := range []error{
		r.Open(0, []string{"id", `a "b" <c>`}),
		r.Row([]Value{Int(-1 << 63), Text("x\n<席>\"")}),
		r.Row([]Value{Uint(1<<64 - 1), Null()}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	if err := r.Open(2, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Row([]Value{Bool(true), Bytes([]byte{0, 255}), Text("1.50")}); err != nil {
		t.Fatal(err)
	}
	r.Close()
	got, err := r.Encode()
	want := `{"results":[{"statement":0,"columns":["id","a \"b\" <c>"],"rows":[[-9223372036854775808,"x\n<席>\""],[18446744073709551615,null]]},` +
		`{"statement":2,"columns":[],"rows":[[true,"AP8=","1.50"]]}]}`
	if err != nil || string(got) != want || !json.Valid(got) {
		t.Errorf("%s, %v", got, err)
	}
}

func TestResultsAreLimited(t *testing.T) {
	var r Results
	if err := r.Open(0, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	row := []Value{Text(strings.Repeat("x", 1000))}
	for n := 0; ; n++ {
		err := r.Row(row)
		if fe, ok := errors.AsType[*fsm.FieldError](err); ok && fe.Field == "result" && n >= 60 {
			break
		}
		if err != nil || n > 70 {
			t.Fatalf("row %d: %v", n, err)
		}
	}
	exact := Results{b: make([]byte, fsm.MaxResultBytes-1)}
	if _, err := exact.Encode(); err == nil {
		t.Error("a result of one byte too many")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"statements":[{"sql":"SELECT $1","args":["a",1,null,true],"rows":1}]}`))
	f.Add([]byte(`{"statements":[{"sql":"/**/COMMIT"}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		list, err := Parse(payload)
		if err != nil {
			return
		}
		again, err := Encode(list...)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > fsm.MaxPayloadBytes {
			return // escapes made it longer
		}
		if got, err := Parse(again); err != nil || len(got) != len(list) {
			t.Fatalf("%q reads back as %v, %v", again, got, err)
		}
	})
}

// The tables of the journal are nothing that a branch may name.
func TestJournalIsLeftAlone(t *testing.T) {
	for _, sql := range []string{
		"DELETE FROM concordat.entry", `SELECT * FROM "concordat" . "participant"`, "update Concordat.Overlay set body = null",
		"DELETE FROM concordat_entry", "SELECT * FROM bank.`concordat_overlay`", "WITH x AS (SELECT 1) DELETE FROM concordat.entry",
	} {
		var unsupported *UnsupportedError
		if err := supported("sql", sql); !errors.As(err, &unsupported) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{"SELECT * FROM entry", "SELECT concordat FROM entry", "SELECT * FROM concordat_entries", "SELECT * FROM myconcordat.entry"} {
		if err := supported("sql", sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
