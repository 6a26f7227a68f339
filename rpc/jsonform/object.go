package jsonform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/concordat-tx/concordat/fsm"
)

// maxShown is how much of a value an error repeats, in bytes.
const maxShown = 60

// fields are the fields of one object, unread.
type fields map[string]json.RawMessage

// badField is an error about the field at path; the whole request has the path "request".
func badField(path, limit, got string) error {
	if path == "" {
		path = "request"
	}
	return &fsm.FieldError{Field: path, Limit: limit, Got: got}
}

// shown is a value as an error repeats it: shortened, on one line.
func shown(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
	if text == "" {
		return "nothing"
	}
	if len(text) > maxShown {
		cut := maxShown
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return text
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// parseObject reads one object whose fields, each at most once and spelt
// exactly so, are among allowed, and nothing behind it.
func parseObject(path string, text []byte, allowed func(name string) bool, names string) (fields, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, badField(path, "a JSON object", shown(string(text)))
	}
	found := fields{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, badField(path, "JSON", err.Error())
		}
		name, _ := key.(string) // the decoder takes nothing else for a key
		if !allowed(name) {
			return nil, badField(join(path, shown(name)), "one of "+names, "an unknown field")
		}
		if _, twice := found[name]; twice {
			return nil, badField(join(path, name), "at most once", "it twice")
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, badField(join(path, name), "JSON", err.Error())
		}
		found[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, badField(path, "JSON", err.Error())
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, badField(path, "one JSON object", "something behind it")
	}
	return found, nil
}

// parseList reads a list.
func parseList(path string, text json.RawMessage) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil || list == nil {
		return nil, badField(path, "a list", shown(string(text)))
	}
	return list, nil
}

// checkText refuses bytes that are not UTF-8, wherever they stand: readers
// disagree on what they mean.
func checkText(path string, text []byte) error {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return badField(path, "UTF-8", fmt.Sprintf("byte %#02x at %d", text[i], i))
		}
		i += n
	}
	return nil
}
