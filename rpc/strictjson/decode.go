package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/concordat-tx/concordat/fsm"
)

// Decoder reads tokens of JSON that is known to be well formed, and knows
// where it is for the errors.
type Decoder struct {
	// root names the whole in errors; fields in it go by their own name.
	root string
	rest []byte
	next json.Token
	read bool
}

// New checks that data is exactly one JSON value in valid UTF-8:
// encoding/json would replace bad bytes silently, and two different payloads
// would mean the same.
func New(field string, data []byte, maxBytes int) (*Decoder, error) {
	fail := func(limit, got string) error { return &fsm.FieldError{Field: field, Limit: limit, Got: got} }
	if len(data) == 0 || len(data) > maxBytes {
		return nil, fail(fmt.Sprintf("1 to %d bytes of JSON", maxBytes), fmt.Sprintf("%d bytes", len(data)))
	}
	if !utf8.Valid(data) {
		return nil, fail("JSON in valid UTF-8", "invalid UTF-8")
	}
	if err := wellFormed(data); err != nil {
		return nil, fail("one JSON value", err.Error())
	}
	return &Decoder{root: field, rest: data}, nil
}

func wellFormed(data []byte) error {
	if json.Valid(data) {
		return nil
	}
	var raw json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&raw); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("JSON that ends too early")
	case err != nil:
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("more data after byte %d", dec.InputOffset())
	}
	return nil
}

// Peek is the next token; nil at the end, and for null.
func (d *Decoder) Peek() json.Token {
	if !d.read {
		d.next = d.scan()
		d.read = true
	}
	return d.next
}

// scan is the next token of what is known to be well formed, so nothing is checked
// again; numbers are json.Number. That is a fifth of what encoding/json takes.
func (d *Decoder) scan() json.Token {
	for len(d.rest) > 0 && between(d.rest[0]) {
		d.rest = d.rest[1:]
	}
	if len(d.rest) == 0 {
		return nil
	}
	switch c := d.rest[0]; c {
	case '{', '}', '[', ']':
		d.rest = d.rest[1:]
		return json.Delim(c)
	case '"':
		return d.text()
	case 't', 'f', 'n':
		word := map[byte]string{'t': "true", 'f': "false", 'n': "null"}[c]
		d.rest = d.rest[len(word):]
		if c == 'n' {
			return nil
		}
		return c == 't'
	}
	end := bytes.IndexAny(d.rest, " \t\r\n,]}")
	if end < 0 {
		end = len(d.rest)
	}
	n := json.Number(d.rest[:end])
	d.rest = d.rest[end:]
	return n
}

// between reports whether c stands between tokens.
func between(c byte) bool {
	return c == ' ' || c == ',' || c == ':' || c == '\n' || c == '\t' || c == '\r'
}

// text takes the string that rest begins with.
func (d *Decoder) text() json.Token {
	escaped := false
	for i := 1; i < len(d.rest); i++ {
		switch d.rest[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			whole := d.rest[:i+1]
			d.rest = d.rest[i+1:]
			if !escaped {
				return string(whole[1:i])
			}
			var s string
			_ = json.Unmarshal(whole, &s) // well formed
			return s
		}
	}
	return nil // not reached: the string ends
}

// Token takes the next token.
func (d *Decoder) Token() json.Token {
	t := d.Peek()
	d.read = false
	return t
}

// More reports whether the object or list that is open goes on; it consumes the end.
func (d *Decoder) More() bool {
	if t, ok := d.Peek().(json.Delim); ok && (t == '}' || t == ']') {
		d.read = false
		return false
	}
	return true
}

// Object reads an object; each gets every field once and must consume its value.
func (d *Decoder) Object(field string, each func(name string) error) error {
	if t := d.Token(); t != json.Delim('{') {
		return Wrong(field, "an object", t)
	}
	var few [8]string
	seen := few[:0]
	var many map[string]bool // what seen has no room for
	for d.More() {
		name, _ := d.Token().(string)
		if slices.Contains(seen, name) || many[name] {
			return &fsm.FieldError{Field: d.Join(field, name), Limit: "once in an object", Got: "twice"}
		}
		switch {
		case len(seen) < cap(seen):
			seen = append(seen, name)
		case many == nil:
			many = map[string]bool{name: true}
		default:
			many[name] = true
		}
		if err := each(name); err != nil {
			return err
		}
	}
	return nil
}

// List reads a list; each must consume one element.
func (d *Decoder) List(field string, each func(i int) error) error {
	if t := d.Token(); t != json.Delim('[') {
		return Wrong(field, "a list", t)
	}
	for i := 0; d.More(); i++ {
		if err := each(i); err != nil {
			return err
		}
	}
	return nil
}

// Text takes a string.
func (d *Decoder) Text(field string) (string, error) {
	t := d.Token()
	s, ok := t.(string)
	if !ok {
		return "", Wrong(field, "a string", t)
	}
	return s, nil
}

// Boolean takes true or false.
func (d *Decoder) Boolean(field string) (bool, error) {
	t := d.Token()
	b, ok := t.(bool)
	if !ok {
		return false, Wrong(field, "true or false", t)
	}
	return b, nil
}

// Int takes a 64-bit integer.
func (d *Decoder) Int(field string) (int64, error) {
	t := d.Token()
	n, ok := t.(json.Number)
	if !ok {
		return 0, Wrong(field, LimitInt, t)
	}
	return ParseInt(field, n)
}

// LimitInt is the limit of an integer, for errors.
const LimitInt = "an integer from -9223372036854775808 to 9223372036854775807, without fraction or exponent"

// ParseInt refuses what is not an integer as it is written: 1.0 and 1e3 are
// numbers that a reader elsewhere takes for floats.
func ParseInt(field string, n json.Number) (int64, error) {
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil {
		return 0, &fsm.FieldError{Field: field, Limit: LimitInt, Got: Clip(n.String())}
	}
	return i, nil
}

// Wrong is the error for a token that is not what the limit says.
func Wrong(field, limit string, t json.Token) error {
	var got string
	switch t := t.(type) {
	case json.Delim:
		got = "a list"
		if t == '{' {
			got = "an object"
		}
	case nil:
		got = "null"
	case json.Number:
		got = "the number " + Clip(t.String())
	case string:
		got = "the string " + Clip(strconv.Quote(t))
	default:
		got = fmt.Sprint(t)
	}
	return &fsm.FieldError{Field: field, Limit: limit, Got: got}
}

// Join is the path of a field in the object at path; the root has no name in it.
func (d *Decoder) Join(path, name string) string {
	if path == d.root {
		path = ""
	}
	return Join(path, name)
}

// Join is the path of a field.
func Join(path, name string) string {
	if !utf8.ValidString(name) || len(name) > 40 || strings.ContainsAny(name, ".[]\"\n") {
		name = Clip(strconv.Quote(name))
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// Clip shortens text for a message: reasons of an abort are cut at 512 bytes,
// and what is cut should be the hostile part, not the explanation.
func Clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	end := most
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
