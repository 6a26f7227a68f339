package kvop

import (
	"fmt"
	"unicode/utf8"

	"github.com/concordat-tx/concordat/fsm"
)

// CheckKey checks a key: 1 to 1,024 bytes of valid UTF-8.
func CheckKey(field, key string) error {
	var got string
	switch {
	case key == "" || len(key) > MaxKeyBytes:
		got = fmt.Sprintf("%d bytes", len(key))
	case !utf8.ValidString(key):
		got = "invalid UTF-8"
	default:
		return nil
	}
	return &fsm.FieldError{Field: field, Limit: fmt.Sprintf("1 to %d bytes of valid UTF-8", MaxKeyBytes), Got: got}
}

// CheckValue checks a value: a string of valid UTF-8, an integer or a flat
// list of them, of a size of at most maxBytes.
func CheckValue(field string, v Value, maxBytes int) error {
	if n := v.Size(); n > maxBytes {
		return &fsm.FieldError{Field: field, Limit: fmt.Sprintf("at most %d bytes", maxBytes), Got: fmt.Sprintf("%d bytes", n)}
	}
	return checkShape(field, v, false)
}

func checkShape(field string, v Value, inList bool) error {
	const limit = "a string, a 64-bit integer or a list of them"
	switch {
	case v.typ == 0:
		return &fsm.FieldError{Field: field, Limit: limit, Got: "nothing"}
	case v.typ == List && inList:
		return &fsm.FieldError{Field: field, Limit: limit, Got: "a list in a list"}
	case v.typ == String && !utf8.ValidString(v.text):
		return &fsm.FieldError{Field: field, Limit: limit, Got: "invalid UTF-8"}
	}
	for i, e := range v.list {
		if err := checkShape(fmt.Sprintf("%s[%d]", field, i), e, true); err != nil {
			return err
		}
	}
	return nil
}
