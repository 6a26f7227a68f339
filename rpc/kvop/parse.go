package kvop

import (
	"fmt"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/strictjson"
)

// Whole is the field of an error about a payload as a whole.
const Whole = "payload"

// Parse reads and checks a payload. An error is a *fsm.FieldError that names
// the field by its path, such as ops[2].delta, and the limit.
func Parse(payload []byte) ([]Op, error) {
	ops, err := parse(payload, false)
	if err != nil {
		_, err = parse(payload, true) // the paths cost as much as all the rest
	}
	return ops, err
}

// parse reads a payload; the error of one that is named has the path.
func parse(payload []byte, named bool) ([]Op, error) {
	d, err := newDecoder(Whole, payload, fsm.MaxPayloadBytes)
	if err != nil {
		return nil, err
	}
	d.named = named
	var ops []Op
	found := false
	err = d.Object(Whole, func(name string) error {
		if name != "ops" {
			return unknownField(strictjson.Join("", name), "only ops")
		}
		found = true
		return d.List("ops", func(i int) error {
			if i == MaxOps {
				return opsLimit(fmt.Sprintf("more than %d", MaxOps))
			}
			op, err := parseOp(d, d.element("ops", i))
			ops = append(ops, op)
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, opsLimit("no ops")
	case len(ops) == 0:
		return nil, opsLimit("0")
	}
	return ops, nil
}

func opsLimit(got string) error {
	return &fsm.FieldError{Field: "ops", Limit: fmt.Sprintf("1 to %d operations", MaxOps), Got: got}
}

func unknownField(field, limit string) error {
	return &fsm.FieldError{Field: field, Limit: limit, Got: "an unknown field"}
}

// fields is a set of the fields of an operation.
type fields uint16

// fieldNames are all fields, in the order in which they are judged, so that the
// same payload always gets the same error; the first two belong to every kind.
var fieldNames = [...]string{"op", "key", "value", "values", "delta", "min", "max", "equals", "exists"}

// fieldOf is the set of one field; empty if it is none.
func fieldOf(name string) fields {
	for i, n := range fieldNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

func fieldsOf(names ...string) (set fields) {
	for _, n := range names {
		set |= fieldOf(n)
	}
	return set
}

// opFields are the fields that each kind may have, and must have, besides op and key.
var opFields = [...]struct{ allowed, required fields }{
	Put:    {fieldsOf("value"), fieldsOf("value")},
	Append: {allowed: fieldsOf("value", "values")},
	Add:    {fieldsOf("delta", "min", "max"), fieldsOf("delta")},
	Check:  {allowed: fieldsOf("equals", "exists")},
}

// parseOp reads one operation. Its fields may come in any order, so what they
// mean is judged when all are there.
func parseOp(d decoder, path string) (Op, error) {
	var op Op
	var single bool
	var have fields
	err := d.Object(path, func(name string) error {
		have |= fieldOf(name)
		return readField(d, &op, &single, d.field(path, name), name)
	})
	if err != nil {
		return Op{}, err
	}
	if err := checkFields(op, path, have); err != nil {
		return Op{}, err
	}
	return op, checkOp(&op, path, single)
}

func readField(d decoder, op *Op, single *bool, path, name string) (err error) {
	switch name {
	case "op":
		op.Kind, err = parseKind(d, path)
	case "key":
		if op.Key, err = d.Text(path); err == nil {
			err = CheckKey(path, op.Key)
		}
	case "value":
		*single = true
		op.Value, err = d.value(path, false)
	case "values":
		err = d.List(path, func(i int) error {
			v, err := d.value(d.element(path, i), true)
			op.Values = append(op.Values, v)
			return err
		})
		if err == nil && len(op.Values) == 0 {
			err = &fsm.FieldError{Field: path, Limit: "at least one element", Got: "0"}
		}
	case "delta":
		op.Delta, err = d.Int(path)
	case "min":
		op.Min, err = pointer(d.Int(path))
	case "max":
		op.Max, err = pointer(d.Int(path))
	case "equals":
		op.Equals, err = pointer(d.value(path, false))
	case "exists":
		op.Exists, err = pointer(d.Boolean(path))
	default:
		err = unknownField(path, "op, key and the fields of the operation")
	}
	return err
}

func pointer[T any](v T, err error) (*T, error) { return &v, err }

func parseKind(d decoder, path string) (Kind, error) {
	name, err := d.Text(path)
	if err != nil {
		return 0, err
	}
	for k, n := range kindNames {
		if n == name && n != "" {
			return Kind(k), nil
		}
	}
	return 0, &fsm.FieldError{Field: path, Limit: "get, put, delete, append, add or check", Got: strictjson.Clip(fmt.Sprintf("%q", name))}
}

func checkFields(op Op, path string, have fields) error {
	common := fieldsOf("op", "key")
	of := opFields[op.Kind]
	if have&(common|of.required) == common|of.required && have&^(common|of.allowed) == 0 {
		return nil
	}
	for i, name := range fieldNames {
		field := fields(1) << i
		switch {
		case (common|of.required)&field != 0 && have&field == 0:
			return &fsm.FieldError{Field: strictjson.Join(path, name), Limit: "required", Got: "nothing"}
		case have&field != 0 && (common|of.allowed)&field == 0:
			return unknownField(strictjson.Join(path, name), "only the fields of "+op.Kind.String())
		}
	}
	return nil
}

func checkOp(op *Op, path string, single bool) error {
	switch op.Kind {
	case Put:
		return CheckValue(strictjson.Join(path, "value"), op.Value, MaxValueBytes)
	case Append:
		return checkAppend(op, path, single)
	case Add:
		if op.Min != nil && op.Max != nil && *op.Min > *op.Max {
			return &fsm.FieldError{Field: strictjson.Join(path, "min"), Limit: "at most max", Got: fmt.Sprint(*op.Min)}
		}
	case Check:
		if (op.Equals == nil) == (op.Exists == nil) {
			return &fsm.FieldError{Field: path, Limit: "exactly one of equals and exists", Got: countOf(op.Equals != nil)}
		}
		if op.Equals != nil {
			return CheckValue(strictjson.Join(path, "equals"), *op.Equals, MaxValueBytes)
		}
	}
	return nil
}

func checkAppend(op *Op, path string, single bool) error {
	if single == (op.Values != nil) {
		return &fsm.FieldError{Field: path, Limit: "exactly one of value and values", Got: countOf(single)}
	}
	if single {
		if op.Value.typ == List {
			return &fsm.FieldError{Field: strictjson.Join(path, "value"), Limit: "a string or a 64-bit integer (values appends several)", Got: "a list"}
		}
		op.Values, op.Value = []Value{op.Value}, Value{}
	}
	return CheckValue(strictjson.Join(path, "values"), Value{typ: List, list: op.Values}, MaxValueBytes)
}

func countOf(both bool) string {
	if both {
		return "both"
	}
	return "neither"
}
