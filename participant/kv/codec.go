package kv

import (
	"fmt"

	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc/kvop"
)

func appendValue(e *durable.Encoder, v kvop.Value) {
	e.Byte(byte(v.Type()))
	switch v.Type() {
	case kvop.String:
		s, _ := v.Text()
		e.Text(s)
	case kvop.Int:
		n, _ := v.Number()
		e.Int(n)
	case kvop.List:
		list, _ := v.Elements()
		e.Count(len(list))
		for _, el := range list {
			appendValue(e, el)
		}
	}
}

func readValue(d *durable.Decoder, inList bool) kvop.Value {
	switch kvop.Type(d.Byte()) {
	case kvop.String:
		return kvop.Text(d.Text())
	case kvop.Int:
		return kvop.Number(d.Int())
	case kvop.List:
		if inList {
			break
		}
		n := d.Count()
		list := make([]kvop.Value, 0, n)
		for range n {
			list = append(list, readValue(d, true))
			if d.Bad() {
				return kvop.Value{}
			}
		}
		return kvop.ListOf(list...)
	}
	d.Spoil()
	return kvop.Value{}
}

func encodeValue(v kvop.Value) []byte {
	e := durable.NewEncoder()
	appendValue(e, v)
	return e.Encoded()
}

func decodeValue(b []byte) (kvop.Value, error) {
	d := durable.NewDecoder(b)
	v := readValue(d, false)
	if err := d.End(); err != nil {
		return kvop.Value{}, fmt.Errorf("value: %w", err)
	}
	return v, nil
}
