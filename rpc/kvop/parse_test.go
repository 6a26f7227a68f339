package kvop

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
)

func ptr[T any](v T) *T { return &v }

func TestParse(t *testing.T) {
	payload := ` {"ops": [
		{"op": "get", "key": "a"},
		{"key": "b", "value": "x\u00e9\n", "op": "put"},
		{"op": "put", "key": "b", "value": [1, "two", -3]},
		{"op": "put", "key": "b", "value": []},
		{"op": "delete", "key": "c"},
		{"op": "append", "key": "d", "value": 7},
		{"op": "append", "key": "d", "values": ["x", 8]},
		{"op": "add", "key": "e", "delta": -9223372036854775808},
		{"op": "add", "key": "e", "delta": 9223372036854775807, "min": 0, "max": 1},
		{"op": "check", "key": "f", "equals": 5},
		{"op": "check", "key": "f", "exists": false}
	]} `
	want := []Op{
		{Kind: Get, Key: "a"},
		{Kind: Put, Key: "b", Value: Text("xé\n")},
		{Kind: Put, Key: "b", Value: ListOf(Number(1), Text("two"), Number(-3))},
		{Kind: Put, Key: "b", Value: ListOf()},
		{Kind: Delete, Key: "c"},
		{Kind: Append, Key: "d", Values: []Value{Number(7)}},
		{Kind: Append, Key: "d", Values: []Value{Text("x"), Number(8)}},
		{Kind: Add, Key: "e", Delta: math.MinInt64},
		{Kind: Add, Key: "e", Delta: math.MaxInt64, Min: ptr(int64(0)), Max: ptr(int64(1))},
		{Kind: Check, Key: "f", Equals: ptr(Number(5))},
		{Kind: Check, Key: "f", Exists: ptr(false)},
	}
	got, err := Parse([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	if !equalOps(got, want) {
		t.Errorf("got %s\nwant %s", Encode(got), Encode(want))
	}
}

// equalOps treats nil and empty lists alike, which payloads cannot tell apart.
func equalOps(a, b []Op) bool {
	return string(Encode(a)) == string(Encode(b)) && len(a) == len(b)
}

func one(fields string) string { return `{"ops":[{` + fields + `}]}` }

var (
	tooMany = strings.TrimSuffix(strings.Repeat(`{"op":"get","key":"a"},`, MaxOps+1), ",")
	tooLong = strings.Repeat("k", MaxKeyBytes+1)
)

var refusals = []struct{ name, payload, field, text string }{
	{"nothing", ``, "payload", "0 bytes"},
	{"over the limit", `{"ops":[` + strings.Repeat(" ", fsm.MaxPayloadBytes), "payload", "65536 bytes"},
	{"no JSON", `{"ops":[`, "payload", "ends too early"},
	{"bad JSON", `{"ops":[},]}`, "payload", "invalid character"},
	{"trailing comma", `{"ops":[{"op":"get","key":"a"},]}`, "payload", "invalid character"},
	{"trailing data", one(`"op":"get","key":"a"`) + `{}`, "payload", "more data"},
	{"trailing garbage", one(`"op":"get","key":"a"`) + `x`, "payload", "more data"},
	{"bad UTF-8", one("\"op\":\"get\",\"key\":\"\xff\""), "payload", "UTF-8"},
	{"no object", `[]`, "payload", "an object"},
	{"null", `null`, "payload", "null"},
	{"no ops", `{}`, "ops", "1 to 256"},
	{"empty ops", `{"ops":[]}`, "ops", "got 0"},
	{"ops is no list", `{"ops":{}}`, "ops", "a list"},
	{"too many ops", `{"ops":[` + tooMany + `]}`, "ops", "256"},
	{"unknown top field", `{"ops":[{"op":"get","key":"a"}],"x":1}`, "x", "unknown field"},
	{"duplicate top field", `{"ops":[{"op":"get","key":"a"}],"ops":[]}`, "ops", "twice"},
	{"operation is no object", `{"ops":[1]}`, "ops[0]", "the number 1"},
	{"unknown operation", one(`"op":"frob","key":"a"`), "ops[0].op", `"frob"`},
	{"empty operation", one(`"op":"","key":"a"`), "ops[0].op", "get, put"},
	{"operation is no string", one(`"op":1,"key":"a"`), "ops[0].op", "a string"},
	{"no operation", one(`"key":"a"`), "ops[0].op", "required"},
	{"no key", one(`"op":"get"`), "ops[0].key", "required"},
	{"empty key", one(`"op":"get","key":""`), "ops[0].key", "0 bytes"},
	{"long key", one(`"op":"get","key":"` + tooLong + `"`), "ops[0].key", "1025 bytes"},
	{"key is null", one(`"op":"get","key":null`), "ops[0].key", "null"},
	{"duplicate key", one(`"op":"get","key":"a","key":"b"`), "ops[0].key", "twice"},
	{"duplicate by escape", one(`"op":"get","key":"a","ke\u0079":"b"`), "ops[0].key", "twice"},
	{"unknown field", one(`"op":"get","key":"a","colour":1`), "ops[0].colour", "unknown field"},
	{"case matters", one(`"op":"get","Key":"a"`), "ops[0].Key", "unknown field"},
	{"field of another operation", one(`"op":"get","key":"a","value":1`), "ops[0].value", "only the fields of get"},
	{"put without value", one(`"op":"put","key":"a"`), "ops[0].value", "required"},
	{"put null", one(`"op":"put","key":"a","value":null`), "ops[0].value", "null"},
	{"put true", one(`"op":"put","key":"a","value":true`), "ops[0].value", "true"},
	{"put object", one(`"op":"put","key":"a","value":{}`), "ops[0].value", "an object"},
	{"list in a list", one(`"op":"put","key":"a","value":[1,[2]]`), "ops[0].value[1]", "a list"},
	{"null in a list", one(`"op":"put","key":"a","value":[null]`), "ops[0].value[0]", "null"},
	{"large value", one(`"op":"put","key":"a","value":"` + strings.Repeat("v", MaxValueBytes+1) + `"`), "ops[0].value", "16384 bytes"},
	{"append neither", one(`"op":"append","key":"a"`), "ops[0]", "neither"},
	{"append both", one(`"op":"append","key":"a","value":1,"values":[1]`), "ops[0]", "both"},
	{"append nothing", one(`"op":"append","key":"a","values":[]`), "ops[0].values", "at least one"},
	{"append value and nothing", one(`"op":"append","key":"a","value":1,"values":[]`), "ops[0].values", "at least one"},
	{"append list", one(`"op":"append","key":"a","value":[1]`), "ops[0].value", "a list"},
	{"add without delta", one(`"op":"add","key":"a"`), "ops[0].delta", "required"},
	{"add a fraction", one(`"op":"add","key":"a","delta":1.5`), "ops[0].delta", "1.5"},
	{"add a whole fraction", one(`"op":"add","key":"a","delta":1.0`), "ops[0].delta", "1.0"},
	{"add an exponent", one(`"op":"add","key":"a","delta":1e3`), "ops[0].delta", "1e3"},
	{"add too much", one(`"op":"add","key":"a","delta":9223372036854775808`), "ops[0].delta", "9223372036854775808"},
	{"add too little", one(`"op":"add","key":"a","delta":-9223372036854775809`), "ops[0].delta", "-9223372036854775809"},
	{"add a string", one(`"op":"add","key":"a","delta":"1"`), "ops[0].delta", `the string "1"`},
	{"min above max", one(`"op":"add","key":"a","delta":1,"min":2,"max":1`), "ops[0].min", "at most max"},
	{"float in a list", one(`"op":"put","key":"a","value":[1,2.5]`), "ops[0].value[1]", "2.5"},
	{"check neither", one(`"op":"check","key":"a"`), "ops[0]", "neither"},
	{"check both", one(`"op":"check","key":"a","equals":1,"exists":true`), "ops[0]", "both"},
	{"exists is no boolean", one(`"op":"check","key":"a","exists":1`), "ops[0].exists", "true or false"},
	{"second operation", `{"ops":[{"op":"get","key":"a"},{"op":"add","key":"a","delta":0.1}]}`, "ops[1].delta", "0.1"},
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			ops, err := Parse([]byte(tt.payload))
			var fe *fsm.FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("got %v, %v; want a FieldError", ops, err)
			}
			if fe.Field != tt.field {
				t.Errorf("field %q, want %q (%v)", fe.Field, tt.field, err)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q does not say %q", err, tt.text)
			}
			if len(err.Error()) > 512 {
				t.Errorf("error of %d bytes would be cut as a reason", len(err.Error()))
			}
		})
	}
}

func TestLimitsAreInclusive(t *testing.T) {
	ops := make([]Op, MaxOps)
	for i := range ops {
		ops[i] = Op{Kind: Get, Key: "k"}
	}
	ops[0].Key = strings.Repeat("k", MaxKeyBytes)
	ops[1] = Op{Kind: Put, Key: "v", Value: Text(strings.Repeat("v", MaxValueBytes))}
	got, err := Parse(Encode(ops))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, ops) {
		t.Error("operations at the limit came back otherwise")
	}
}

func scalars() *rapid.Generator[Value] {
	return rapid.OneOf(rapid.Map(rapid.String(), Text), rapid.Map(rapid.Int64(), Number))
}

func values() *rapid.Generator[Value] {
	list := rapid.Map(rapid.SliceOfN(scalars(), 0, 8), func(v []Value) Value { return ListOf(v...) })
	return rapid.OneOf(scalars(), list)
}

func operations() *rapid.Generator[Op] {
	return rapid.Custom(func(t *rapid.T) Op {
		op := Op{Kind: Kind(rapid.IntRange(int(Get), int(Check)).Draw(t, "kind"))}
		op.Key = rapid.StringN(1, 40, MaxKeyBytes).Draw(t, "key")
		switch op.Kind {
		case Put:
			op.Value = values().Draw(t, "value")
		case Append:
			op.Values = rapid.SliceOfN(scalars(), 1, 5).Draw(t, "values")
		case Add:
			op.Delta = rapid.Int64().Draw(t, "delta")
			bounds := rapid.Ptr(rapid.Int64(), true)
			op.Min, op.Max = bounds.Draw(t, "min"), bounds.Draw(t, "max")
			if op.Min != nil && op.Max != nil && *op.Min > *op.Max {
				op.Min, op.Max = op.Max, op.Min
			}
		case Check:
			if rapid.Bool().Draw(t, "by value") {
				op.Equals = ptr(values().Draw(t, "equals"))
			} else {
				op.Exists = ptr(rapid.Bool().Draw(t, "exists"))
			}
		}
		return op
	})
}

func TestPayloadRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(operations(), 1, 10).Draw(t, "ops")
		got, err := Parse(Encode(ops))
		if err != nil {
			t.Fatalf("%s: %v", Encode(ops), err)
		}
		for i := range ops {
			if !sameOp(got[i], ops[i]) {
				t.Fatalf("operation %d: got %+v, want %+v", i, got[i], ops[i])
			}
		}
	})
}

func sameOp(a, b Op) bool {
	equals := (a.Equals == nil) == (b.Equals == nil) && (a.Equals == nil || a.Equals.Equal(*b.Equals))
	return equals && a.Value.Equal(b.Value) && ListOf(a.Values...).Equal(ListOf(b.Values...)) &&
		a.Kind == b.Kind && a.Key == b.Key && a.Delta == b.Delta && reflect.DeepEqual(a.Min, b.Min) &&
		reflect.DeepEqual(a.Max, b.Max) && reflect.DeepEqual(a.Exists, b.Exists)
}

func TestResultRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		results := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Result {
			r := Result{Key: rapid.String().Draw(t, "key"), Exists: rapid.Bool().Draw(t, "exists")}
			if r.Exists {
				r.Value = values().Draw(t, "value")
			}
			return r
		}), 0, 6).Draw(t, "results")
		got, err := ParseResults(EncodeResults(results))
		if err != nil {
			t.Fatalf("%s: %v", EncodeResults(results), err)
		}
		if fmt.Sprint(got) != fmt.Sprint(results) {
			t.Fatalf("got %v, want %v", got, results)
		}
	})
}

func TestResultFormat(t *testing.T) {
	got := string(EncodeResults([]Result{{Key: "a<b", Exists: true, Value: ListOf(Number(1), Text("x\"\x01"))}, {Key: "c"}}))
	want := `{"results":[{"key":"a<b","exists":true,"value":[1,"x\"\u0001"]},{"key":"c","exists":false}]}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, bad := range map[string]string{
		"value missing": `{"results":[{"key":"a","exists":true}]}`,
		"value without": `{"results":[{"key":"a","exists":false,"value":1}]}`,
		"unknown field": `{"results":[{"key":"a","exists":false,"x":1}]}`,
		"other object":  `{"result":[]}`,
	} {
		if _, err := ParseResults([]byte(bad)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// FuzzParse: nothing panics, and what is accepted means the same after a round trip.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"ops":[{"op":"add","key":"flight/LH1","delta":-1,"min":0}]}`,
		`{"ops":[{"op":"put","key":"ann/last","value":["LH1",2]},{"op":"get","key":"ann/last"}]}`,
		`{"ops":[{"op":"append","key":"l","values":[1,"\ud800"]},{"op":"check","key":"k","equals":[]}]}`,
		`{"ops":[{"op":"delete","key":"\u0000"},{"op":"check","key":"k","exists":true}]}`,
		`{"ops":[{"op":"add","key":"a","delta":1e3}]}`, `{"ops":[]}{`, `[[[[`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		ops, err := Parse(payload)
		if err != nil {
			var fe *fsm.FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		if len(ops) == 0 || len(ops) > MaxOps {
			t.Fatalf("%d operations accepted", len(ops))
		}
		// A round trip may grow (\n becomes two bytes), beyond the limit too.
		if encoded := Encode(ops); len(encoded) <= fsm.MaxPayloadBytes {
			again, err := Parse(encoded)
			if err != nil {
				t.Fatalf("%q became %q: %v", payload, encoded, err)
			}
			for i := range ops {
				if !sameOp(ops[i], again[i]) {
					t.Fatalf("operation %d: %+v became %+v", i, ops[i], again[i])
				}
			}
		}
	})
}
