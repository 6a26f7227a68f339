package kvop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/concordat-tx/concordat/fsm"
)

// decoder reads tokens of JSON that is known to be well formed, and knows
// where it is for the errors.
type decoder struct {
	// root names the whole in errors; fields in it go by their own name.
	root string
	json *json.Decoder
	next json.Token
	read bool
}

// newDecoder checks that data is exactly one JSON value in valid UTF-8:
// encoding/json would replace bad bytes silently, and two different payloads
// would mean the same.
func newDecoder(field string, data []byte, maxBytes int) (*decoder, error) {
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
	d := &decoder{root: field, json: json.NewDecoder(bytes.NewReader(data))}
	d.json.UseNumber()
	return d, nil
}

func wellFormed(data []byte) error {
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

func (d *decoder) peek() json.Token {
	if !d.read {
		// The data are well formed, so the only error is the end, which is no token either.
		d.next, _ = d.json.Token()
		d.read = true
	}
	return d.next
}

func (d *decoder) token() json.Token {
	t := d.peek()
	d.read = false
	return t
}

// more reports whether the object or list that is open goes on; it consumes the end.
func (d *decoder) more() bool {
	if t, ok := d.peek().(json.Delim); ok && (t == '}' || t == ']') {
		d.read = false
		return false
	}
	return true
}

// object reads an object; each gets every field once and must consume its value.
func (d *decoder) object(field string, each func(name string) error) error {
	if t := d.token(); t != json.Delim('{') {
		return wrong(field, "an object", t)
	}
	seen := map[string]bool{}
	for d.more() {
		name, _ := d.token().(string)
		if seen[name] {
			return &fsm.FieldError{Field: d.join(field, name), Limit: "once in an object", Got: "twice"}
		}
		seen[name] = true
		if err := each(name); err != nil {
			return err
		}
	}
	return nil
}

// list reads a list; each must consume one element.
func (d *decoder) list(field string, each func(i int) error) error {
	if t := d.token(); t != json.Delim('[') {
		return wrong(field, "a list", t)
	}
	for i := 0; d.more(); i++ {
		if err := each(i); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) text(field string) (string, error) {
	t := d.token()
	s, ok := t.(string)
	if !ok {
		return "", wrong(field, "a string", t)
	}
	return s, nil
}

func (d *decoder) boolean(field string) (bool, error) {
	t := d.token()
	b, ok := t.(bool)
	if !ok {
		return false, wrong(field, "true or false", t)
	}
	return b, nil
}

func (d *decoder) number(field string) (int64, error) {
	t := d.token()
	n, ok := t.(json.Number)
	if !ok {
		return 0, wrong(field, limitInt, t)
	}
	return parseInt(field, n)
}

const limitInt = "an integer from -9223372036854775808 to 9223372036854775807, without fraction or exponent"

// parseInt refuses what is not an integer as it is written: 1.0 and 1e3 are
// numbers that a reader elsewhere takes for floats.
func parseInt(field string, n json.Number) (int64, error) {
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil {
		return 0, &fsm.FieldError{Field: field, Limit: limitInt, Got: Clip(n.String())}
	}
	return i, nil
}

// value reads a value; lists do not nest.
func (d *decoder) value(field string, inList bool) (Value, error) {
	switch t := d.peek().(type) {
	case string:
		d.token()
		return Text(t), nil
	case json.Number:
		d.token()
		n, err := parseInt(field, t)
		return Number(n), err
	case json.Delim:
		if t == '[' && !inList {
			v := Value{typ: List}
			err := d.list(field, func(i int) error {
				e, err := d.value(fmt.Sprintf("%s[%d]", field, i), true)
				v.list = append(v.list, e)
				return err
			})
			return v, err
		}
	}
	if inList {
		return Value{}, wrong(field, "a string or a 64-bit integer", d.token())
	}
	return Value{}, wrong(field, "a string, a 64-bit integer or a list of them", d.token())
}

func wrong(field, limit string, t json.Token) error {
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

func (d *decoder) join(path, name string) string {
	if path == d.root {
		path = ""
	}
	return join(path, name)
}

func join(path, name string) string {
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
