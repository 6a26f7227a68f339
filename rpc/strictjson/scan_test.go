package strictjson

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzTokens: of whatever New takes, the tokens are those of encoding/json.
func FuzzTokens(f *testing.F) {
	for _, s := range []string{
		`{"ops":[{"op":"add","key":"k\n\u00e9\ud83d\ude00\ud800","delta":-1,"min":0}]}`, ` [ 1 , -2.5e+3,true,false,null , "" , "\\\"" ] `,
		`0`, `"x"`, `null`, `{}`, `[[],{}]`, `{"a":{"b":[{"c":1}]},"a":2}`, `{"":""}`, "[\"\u2028\"]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := New("payload", data, 1<<16)
		if (err == nil) != (len(data) > 0 && len(data) <= 1<<16 && utf8.Valid(data) && json.Valid(data)) {
			t.Fatalf("%q: %v", data, err)
		}
		if err != nil {
			return
		}
		want := json.NewDecoder(bytes.NewReader(data))
		want.UseNumber()
		for {
			token, err := want.Token()
			if err != nil {
				break
			}
			if got := d.Token(); got != token {
				t.Fatalf("%q: token %#v, want %#v", data, got, token)
			}
		}
		if got := d.Token(); got != nil {
			t.Fatalf("%q: token %#v after the end", data, got)
		}
	})
}
