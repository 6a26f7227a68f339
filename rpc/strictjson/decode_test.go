package strictjson

import (
	"errors"
	"testing"

	"github.com/concordat-tx/concordat/fsm"
)

// The readers of payloads, kvop and statements, test the rest.
func TestPathsInErrors(t *testing.T) {
	d, err := New("whole", []byte(`{"a": {"b.c": [1, "x"]}}`), 100)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	err = d.Object("whole", func(name string) error {
		seen = append(seen, d.Join("whole", name))
		return d.Object(name, func(inner string) error {
			return d.List(Join(name, inner), func(int) error {
				_, err := d.Int(Join(name, inner))
				return err
			})
		})
	})
	fe, ok := errors.AsType[*fsm.FieldError](err)
	if !ok || fe.Field != `a."b.c"` || fe.Got != `the string "x"` || len(seen) != 1 || seen[0] != "a" {
		t.Errorf("%v, %q", err, seen)
	}
	for _, bad := range []string{"", "{", "{} {}", "\"\xff\"", `{"a":1,"a":2}`} {
		d, err := New("whole", []byte(bad), 100)
		if err == nil {
			err = d.Object("whole", func(name string) error { _, err := d.Int(name); return err })
		}
		if err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
