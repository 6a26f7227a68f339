package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/jsonform"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// FuzzSubmitFile: what tx submit reads from a file or from standard input is
// the request in it, whole, with the flags over it; or an error of usage that
// names the file and the field, and nothing.
func FuzzSubmitFile(f *testing.F) {
	const whole = `{"id":"a","wait":"COMPLETED","timeout":"5s","since":3,"branches":[{"participant":"p","payload":{"ops":[]}}]}`
	for _, text := range []string{
		whole, ``, `null`, `[]`, `{}`, whole[:50], whole + whole, whole + "x", "\xef\xbb\xbf" + whole, strings.Replace(whole, "COMPLETED", "completed", 1),
		strings.Replace(whole, `"id"`, `"ID"`, 1), strings.Replace(whole, "5s", "5", 1), strings.Replace(whole, "3", "-3", 1), whole + strings.Repeat(" ", maxFileBytes),
	} {
		f.Add([]byte(text))
	}
	read := func(f submitFlags, stdin string, args ...string) (*pb.SubmitRequest, error) {
		a := &app{stdin: strings.NewReader(stdin), stdout: io.Discard, stderr: io.Discard, env: func(string) string { return "" }}
		cmd := newTxSubmitCommand(a)
		if err := cmd.Flags().Parse(args); err != nil {
			return nil, err
		}
		return a.submitRequest(cmd, f)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "request.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		req, err := read(submitFlags{file: file}, "")
		piped, pipedErr := read(submitFlags{file: "-"}, string(text))
		if (err == nil) != (pipedErr == nil) || !proto.Equal(req, piped) {
			t.Errorf("a file gives %v, %v; standard input %v, %v", req, err, piped, pipedErr)
		}
		if err != nil {
			field, named := errors.AsType[*fsm.FieldError](err)
			_, usage := errors.AsType[*usageError](err)
			if req != nil || !usage || !strings.Contains(err.Error(), "--file "+file) {
				t.Errorf("%q: read %v, error %v", text, req, err)
			}
			if tooLong := len(text) > maxFileBytes; !tooLong && (!named || !strings.Contains(err.Error(), field.Field)) {
				t.Errorf("%q: %v names no field", text, err)
			}
			return
		}
		want, err := jsonform.ParseSubmit(text)
		if err != nil || !proto.Equal(req, want) {
			t.Errorf("%q: read %v, want %v, %v", text, req, want, err)
		}
		over, err := read(submitFlags{file: file, id: "b", since: 7}, "", "--id", "b", "--since", "7")
		want.Id, want.Since = "b", proto.Uint64(7)
		if err != nil || !proto.Equal(over, want) {
			t.Errorf("%q: with flags read %v, %v, want %v", text, over, err, want)
		}
	})
}
