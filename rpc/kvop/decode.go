package kvop

import (
	"encoding/json"
	"fmt"

	"github.com/concordat-tx/concordat/rpc/strictjson"
)

// decoder also reads values.
type decoder struct {
	*strictjson.Decoder
	named bool // paths are made, for an error
}

// element is the path of an element of the list at path.
func (d decoder) element(path string, i int) string {
	if !d.named {
		return ""
	}
	return fmt.Sprintf("%s[%d]", path, i)
}

// field is the path of a field of the object at path.
func (d decoder) field(path, name string) string {
	if !d.named {
		return ""
	}
	return strictjson.Join(path, name)
}

func newDecoder(field string, data []byte, maxBytes int) (decoder, error) {
	d, err := strictjson.New(field, data, maxBytes)
	return decoder{Decoder: d, named: true}, err
}

// value reads a value; lists do not nest.
func (d decoder) value(field string, inList bool) (Value, error) {
	switch t := d.Peek().(type) {
	case string:
		d.Token()
		return Text(t), nil
	case json.Number:
		d.Token()
		n, err := strictjson.ParseInt(field, t)
		return Number(n), err
	case json.Delim:
		if t == '[' && !inList {
			v := Value{typ: List}
			err := d.List(field, func(i int) error {
				e, err := d.value(d.element(field, i), true)
				v.list = append(v.list, e)
				return err
			})
			return v, err
		}
	}
	if inList {
		return Value{}, strictjson.Wrong(field, "a string or a 64-bit integer", d.Token())
	}
	return Value{}, strictjson.Wrong(field, "a string, a 64-bit integer or a list of them", d.Token())
}
