package jsonform

import (
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// States are the words for states in a query; a state's full name is good as
// well, and "unfinished" stands for the three before the end.
var States = map[string][]pb.State{
	"preparing":  {pb.State_STATE_PREPARING},
	"committing": {pb.State_STATE_COMMITTING},
	"aborting":   {pb.State_STATE_ABORTING},
	"committed":  {pb.State_STATE_COMMITTED},
	"aborted":    {pb.State_STATE_ABORTED},
	"unfinished": {pb.State_STATE_PREPARING, pb.State_STATE_COMMITTING, pb.State_STATE_ABORTING},
}

// Orders are the words for the order of a list; an order's full name is good as well.
var Orders = map[string]pb.Order{
	"id": pb.Order_ORDER_UNSPECIFIED, "oldest": pb.Order_OLDEST_FIRST, "newest": pb.Order_NEWEST_FIRST,
}

const (
	statesName protoreflect.Name = "states"
	// stateParameter is what the field states is called in a query: state=a&state=b, or state=a,b.
	stateParameter = "state"
	orderParameter = "order"
	stateLimit     = "preparing, committing, aborting, committed, aborted or unfinished"
	orderLimit     = "id, oldest or newest"
)

// ParseQuery reads the parameters of a URL, as they stand behind its question
// mark, into the message, which is empty. The fields named in except are
// unknown here, since they come from the path. It is as strict as Parse: each
// parameter stands at most once (state excepted) and has a value.
func ParseQuery(raw string, into proto.Message, except ...string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return badField("query", "name=value&…, percent-encoded", shown(err.Error()))
	}
	m := into.ProtoReflect()
	var names []string
	for i := range m.Descriptor().Fields().Len() {
		if name := m.Descriptor().Fields().Get(i).Name(); !slices.Contains(except, string(name)) {
			names = append(names, parameterOf(name))
		}
	}
	// In order, so that the same request has the same error.
	for _, name := range slices.Sorted(mapKeys(values)) {
		if !slices.Contains(names, name) {
			known := strings.Join(names, ", ")
			if known == "" {
				known = "no parameters"
			}
			return badField(shown(name), "one of "+known, "an unknown parameter")
		}
		if err := setParameter(m, name, values[name]); err != nil {
			return err
		}
	}
	return nil
}

func mapKeys(values url.Values) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range values {
			if !yield(name) {
				return
			}
		}
	}
}

func parameterOf(field protoreflect.Name) string {
	if field == statesName {
		return stateParameter
	}
	return string(field)
}

func setParameter(m protoreflect.Message, name string, values []string) error {
	for _, v := range values {
		if err := checkText(name, []byte(v)); err != nil {
			return err
		}
	}
	if name == stateParameter {
		return setStates(m, values)
	}
	if len(values) > 1 {
		return badField(name, "at most once", "it twice")
	}
	field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	v, err := parseParameter(name, values[0], field)
	if err == nil {
		m.Set(field, v)
	}
	return err
}

func parseParameter(name, text string, field protoreflect.FieldDescriptor) (protoreflect.Value, error) {
	switch {
	case name == orderParameter:
		if o, ok := Orders[text]; ok {
			return protoreflect.ValueOfEnum(o.Number()), nil
		}
		if o, ok := pb.Order_value[text]; ok {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(o)), nil
		}
		return protoreflect.Value{}, badField(name, orderLimit, shown(text))
	case field.Kind() == protoreflect.BoolKind:
		return parseValue(name, []byte(text), field, protoreflect.ValueOfBool(false))
	}
	return parseText(name, text, field)
}

func setStates(m protoreflect.Message, values []string) error {
	list := m.Mutable(m.Descriptor().Fields().ByName(statesName)).List()
	for _, value := range values {
		for text := range strings.SplitSeq(value, ",") {
			states, ok := States[text]
			if full, known := pb.State_value[text]; known && full != 0 {
				states, ok = []pb.State{pb.State(full)}, true
			}
			if !ok {
				return badField(stateParameter, stateLimit, shown(text))
			}
			for _, s := range states {
				list.Append(protoreflect.ValueOfEnum(s.Number()))
			}
		}
	}
	return nil
}
