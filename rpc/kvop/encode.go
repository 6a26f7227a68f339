package kvop

import "strconv"

// Encode is the payload of ops; Parse reads it back. It does not check.
func Encode(ops []Op) []byte {
	b := []byte(`{"ops":[`)
	for i, op := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = op.appendJSON(b)
	}
	return append(b, "]}"...)
}

func (op Op) appendJSON(b []byte) []byte {
	b = append(b, `{"op":"`...)
	b = append(b, op.Kind.String()...)
	b = appendString(append(b, `","key":`...), op.Key)
	switch op.Kind {
	case Put:
		b = op.Value.AppendJSON(append(b, `,"value":`...))
	case Append:
		b = Value{typ: List, list: op.Values}.AppendJSON(append(b, `,"values":`...))
	case Add:
		b = strconv.AppendInt(append(b, `,"delta":`...), op.Delta, 10)
		if op.Min != nil {
			b = strconv.AppendInt(append(b, `,"min":`...), *op.Min, 10)
		}
		if op.Max != nil {
			b = strconv.AppendInt(append(b, `,"max":`...), *op.Max, 10)
		}
	case Check:
		if op.Equals != nil {
			b = op.Equals.AppendJSON(append(b, `,"equals":`...))
		}
		if op.Exists != nil {
			b = strconv.AppendBool(append(b, `,"exists":`...), *op.Exists)
		}
	}
	return append(b, '}')
}
