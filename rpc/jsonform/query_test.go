package jsonform

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestParseQuery(t *testing.T) {
	tests := map[string]struct {
		query  string
		except []string
		want   proto.Message
		field  string
	}{
		"nothing": {"", nil, &pb.ListRequest{}, ""},
		"all": {"state=committed,STATE_ABORTED&state=preparing&participant=a&limit=5&after=x%2Fy&needs_operator=true&order=newest&min_age=1m30s&unfinished=false", nil,
			&pb.ListRequest{
				States:      []pb.State{pb.State_STATE_COMMITTED, pb.State_STATE_ABORTED, pb.State_STATE_PREPARING},
				Participant: "a", Limit: 5, After: "x/y", NeedsOperator: true, Order: pb.Order_NEWEST_FIRST, MinAge: durationpb.New(90 * time.Second),
			}, ""},
		"unfinished states":       {"state=unfinished", nil, &pb.ListRequest{States: []pb.State{1, 2, 3}}, ""},
		"an order in full":        {"order=OLDEST_FIRST", nil, &pb.ListRequest{Order: pb.Order_OLDEST_FIRST}, ""},
		"by id":                   {"order=id", nil, &pb.ListRequest{}, ""},
		"no such order":           {"order=1", nil, &pb.ListRequest{}, "order"},
		"no such state":           {"state=committed,", nil, &pb.ListRequest{}, "state"},
		"the unspecified state":   {"state=STATE_UNSPECIFIED", nil, &pb.ListRequest{}, "state"},
		"the name of the field":   {"states=committed", nil, &pb.ListRequest{}, "states"},
		"unknown":                 {"limits=5", nil, &pb.ListRequest{}, "limits"},
		"twice":                   {"limit=5&limit=5", nil, &pb.ListRequest{}, "limit"},
		"no number":               {"limit=5.0", nil, &pb.ListRequest{}, "limit"},
		"no value":                {"limit", nil, &pb.ListRequest{}, "limit"},
		"over 32 bits":            {"limit=4294967296", nil, &pb.ListRequest{}, "limit"},
		"a flag without a value":  {"needs_operator", nil, &pb.ListRequest{}, "needs_operator"},
		"a flag as a number":      {"needs_operator=1", nil, &pb.ListRequest{}, "needs_operator"},
		"an age without a unit":   {"min_age=5", nil, &pb.ListRequest{}, "min_age"},
		"bad UTF-8":               {"after=%ff", nil, &pb.ListRequest{}, "after"},
		"bad UTF-8 in a name":     {"%ff=1", nil, &pb.ListRequest{}, "\uFFFD"},
		"bad encoding":            {"after=%zz", nil, &pb.ListRequest{}, "query"},
		"a semicolon":             {"after=a;limit=1", nil, &pb.ListRequest{}, "query"},
		"the id is the path's":    {"id=x", []string{"id"}, &pb.GetRequest{}, "id"},
		"stale":                   {"stale=true", []string{"id"}, &pb.GetRequest{Stale: true}, ""},
		"no parameters are known": {"a=b", nil, &pb.StatusRequest{}, "a"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := test.want.ProtoReflect().New().Interface()
			err := ParseQuery(test.query, got, test.except...)
			fe, _ := errors.AsType[*fsm.FieldError](err)
			switch {
			case test.field == "" && (err != nil || !proto.Equal(got, test.want)):
				t.Errorf("got %v, %v", got, err)
			case test.field != "" && (fe == nil || fe.Field != test.field):
				t.Errorf("got %v, want an error about %s", err, test.field)
			}
		})
	}
}
