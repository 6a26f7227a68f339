package statements

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/concordat-tx/concordat/fsm"
)

// Value is one value of a result, as JSON.
type Value []byte

// Null is SQL's NULL.
func Null() Value { return Value("null") }

// Int is an integer.
func Int(n int64) Value { return strconv.AppendInt(nil, n, 10) }

// Uint is an integer that may be above those of Int.
func Uint(n uint64) Value { return strconv.AppendUint(nil, n, 10) }

// Bool is a truth value.
func Bool(b bool) Value { return strconv.AppendBool(nil, b) }

// Text is a string, or anything in the database's own notation.
func Text(s string) Value { return quote(s) }

// Bytes are base64 in a string.
func Bytes(b []byte) Value { return quote(base64.StdEncoding.EncodeToString(b)) }

func quote(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	// What a user wrote is what a user reads.
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string always has a form in JSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Results builds the result of a branch. The zero value is ready.
type Results struct {
	b    []byte
	rows int // of the statement that is open
}

// Open begins the rows of a statement that returns some. Row and Close follow.
func (r *Results) Open(statement int, columns []string) error {
	if r.b == nil {
		r.b = append(r.b, `{"results":[`...)
	} else {
		r.b = append(r.b, ',')
	}
	r.b = strconv.AppendInt(append(r.b, `{"statement":`...), int64(statement), 10)
	r.b = append(r.b, `,"columns":[`...)
	for i, c := range columns {
		if i > 0 {
			r.b = append(r.b, ',')
		}
		r.b = append(r.b, quote(c)...)
	}
	r.b, r.rows = append(r.b, `],"rows":[`...), 0
	return r.check()
}

// Row adds a row.
func (r *Results) Row(values []Value) error {
	if r.rows++; r.rows > 1 {
		r.b = append(r.b, ',')
	}
	r.b = append(r.b, '[')
	for i, v := range values {
		if i > 0 {
			r.b = append(r.b, ',')
		}
		r.b = append(r.b, v...)
	}
	r.b = append(r.b, ']')
	return r.check()
}

// Close ends the rows of a statement.
func (r *Results) Close() { r.b = append(r.b, "]}"...) }

// Encode is the result; nil if no statement returned rows.
func (r *Results) Encode() ([]byte, error) {
	if r.b == nil {
		return nil, nil
	}
	out := append(bytes.Clone(r.b), "]}"...)
	if len(out) > fsm.MaxResultBytes {
		return nil, tooLarge()
	}
	return out, nil
}

// check ends the reading of rows early: what is too large already can only grow.
func (r *Results) check() error {
	if len(r.b) > fsm.MaxResultBytes {
		return tooLarge()
	}
	return nil
}

func tooLarge() error {
	return &fsm.FieldError{
		Field: "result", Limit: fmt.Sprintf("at most %d bytes, select fewer rows or columns", fsm.MaxResultBytes), Got: "more",
	}
}
