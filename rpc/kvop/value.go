package kvop

import (
	"slices"
	"strconv"
)

// Type is the type of a value.
type Type uint8

// The types of values.
const (
	String Type = iota + 1
	Int
	List
)

// String is the type's name in messages.
func (t Type) String() string {
	switch t {
	case String:
		return "string"
	case Int:
		return "integer"
	case List:
		return "list"
	}
	return "nothing"
}

// Value is a string, a 64-bit integer or a list of them. The zero Value is no
// value at all. Values are immutable.
type Value struct {
	typ  Type
	text string
	num  int64
	list []Value
}

// Text is a string value.
func Text(s string) Value { return Value{typ: String, text: s} }

// Number is an integer value.
func Number(n int64) Value { return Value{typ: Int, num: n} }

// ListOf is a list value. A list in a list is left to the caller not to make:
// Check refuses it.
func ListOf(elements ...Value) Value { return Value{typ: List, list: slices.Clone(elements)} }

// Type is the value's type; 0 for the zero Value.
func (v Value) Type() Type { return v.typ }

// Text is the string, if v is one.
func (v Value) Text() (string, bool) { return v.text, v.typ == String }

// Number is the integer, if v is one.
func (v Value) Number() (int64, bool) { return v.num, v.typ == Int }

// Elements are a copy of the elements, if v is a list.
func (v Value) Elements() ([]Value, bool) { return slices.Clone(v.list), v.typ == List }

// With is the list v with more elements at its end.
func (v Value) With(elements ...Value) Value {
	return Value{typ: List, list: append(slices.Clip(v.list), elements...)}
}

// Equal reports whether both are the same value of the same type.
func (v Value) Equal(w Value) bool {
	return v.typ == w.typ && v.text == w.text && v.num == w.num && slices.EqualFunc(v.list, w.list, Value.Equal)
}

// Size is what counts against limits: the bytes of a string, 8 of an integer,
// and for a list its elements' sizes and 4 more for each.
func (v Value) Size() int {
	switch v.typ {
	case String:
		return len(v.text)
	case Int:
		return 8
	}
	n := 0
	for _, e := range v.list {
		n += 4 + e.Size()
	}
	return n
}

// AppendJSON appends the value as JSON; the zero Value is null.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.typ {
	case String:
		return appendString(b, v.text)
	case Int:
		return strconv.AppendInt(b, v.num, 10)
	case List:
		b = append(b, '[')
		for i, e := range v.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.AppendJSON(b)
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

// String is the value as JSON.
func (v Value) String() string { return string(v.AppendJSON(nil)) }

const hexDigits = "0123456789abcdef"

// appendString quotes s. Unlike encoding/json it leaves < > & alone, so that
// what a user wrote is what a user reads.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
