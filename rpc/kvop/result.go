package kvop

import (
	"fmt"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/strictjson"
)

// Result is what one get found. Value is zero if the key does not exist.
type Result struct {
	Key    string
	Exists bool
	Value  Value
}

// EncodeResults is the result of a branch, {"results": [{"key", "exists",
// "value"}…]}, one for every get in the order of the operations. nil if there
// are none. It does not check fsm.MaxResultBytes.
func EncodeResults(results []Result) []byte {
	if len(results) == 0 {
		return nil
	}
	b := []byte(`{"results":[`)
	for i, r := range results {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"key":`...), r.Key)
		if r.Exists {
			b = r.Value.AppendJSON(append(b, `,"exists":true,"value":`...))
		} else {
			b = append(b, `,"exists":false`...)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// ParseResults reads what EncodeResults wrote; an empty result is none. An
// error is a *fsm.FieldError.
func ParseResults(result []byte) ([]Result, error) {
	if len(result) == 0 {
		return nil, nil
	}
	d, err := newDecoder("result", result, fsm.MaxResultBytes)
	if err != nil {
		return nil, err
	}
	var results []Result
	err = d.Object("result", func(name string) error {
		if name != "results" {
			return unknownField(strictjson.Join("", name), "only results")
		}
		return d.List("results", func(i int) error {
			r, err := parseResult(d, fmt.Sprintf("results[%d]", i))
			results = append(results, r)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func parseResult(d decoder, path string) (Result, error) {
	var r Result
	err := d.Object(path, func(name string) (err error) {
		switch name {
		case "key":
			r.Key, err = d.Text(strictjson.Join(path, name))
		case "exists":
			r.Exists, err = d.Boolean(strictjson.Join(path, name))
		case "value":
			r.Value, err = d.value(strictjson.Join(path, name), false)
		default:
			err = unknownField(strictjson.Join(path, name), "key, exists and value")
		}
		return err
	})
	if err == nil && r.Exists != (r.Value.typ != 0) {
		err = &fsm.FieldError{Field: path, Limit: "a value if and only if it exists", Got: r.Value.Type().String()}
	}
	return r, err
}

// ParseValue reads one value as JSON, such as the value_json of a read. An
// error is a *fsm.FieldError.
func ParseValue(data []byte, maxBytes int) (Value, error) {
	d, err := newDecoder("value", data, maxBytes)
	if err != nil {
		return Value{}, err
	}
	return d.value("value", false)
}
