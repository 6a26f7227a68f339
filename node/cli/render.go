package cli

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/concordat-tx/concordat/rpc/jsonform"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// object is a message as it is shown, which commands may add to.
type object = jsonform.Object

// toObject and transactionObject are the form that the HTTP interface has too.
var (
	toObject          = jsonform.Of
	transactionObject = jsonform.Transaction
)

func resultText(b *pb.BranchStatus) string {
	switch {
	case b.GetResultUnavailable():
		return "(unavailable)"
	case len(b.GetResult()) == 0:
		return "-"
	case json.Valid(b.GetResult()):
		var compact bytes.Buffer
		if json.Compact(&compact, b.GetResult()) == nil {
			return compact.String()
		}
	}
	return strconv.Quote(string(b.GetResult()))
}

func reasonText(r *pb.Reason) string {
	if r == nil {
		return ""
	}
	text := strip(r.GetCode().String(), "CODE_")
	if r.GetParticipant() != "" {
		text += " at " + r.GetParticipant()
	}
	if r.GetMessage() != "" {
		text += ": " + r.GetMessage()
	}
	return text
}

func stateName(s pb.State) string { return strip(s.String(), "STATE_") }

func outcomeName(o pb.Outcome) string {
	if o == pb.Outcome_OUTCOME_UNSPECIFIED {
		return "not decided"
	}
	return o.String()
}

func settledName(s pb.Settled) string { return dash(strip(s.String(), "SETTLED_")) }

// strip drops an enum's prefix; its zero value is nothing.
func strip(name, prefix string) string {
	name = strings.TrimPrefix(name, prefix)
	if name == "UNSPECIFIED" {
		return ""
	}
	return name
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
