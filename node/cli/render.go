package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// object is a message as protojson has it (names of the proto file, 64-bit
// integers as strings), which commands may add to.
type object map[string]any

func toObject(m proto.Message) (object, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("show %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	var o object
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&o); err != nil {
		return nil, fmt.Errorf("show %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return o, nil
}

// setBytes shows bytes as the JSON that they are under name, or as base64
// under name_base64: a reader always knows which it has.
func (o object) setBytes(name string, b []byte) {
	delete(o, name)
	switch {
	case len(b) == 0:
	case json.Valid(b):
		o[name] = json.RawMessage(b)
	default:
		o[name+"_base64"] = b
	}
}

// transactionObject is a transaction with its results as JSON.
func transactionObject(t *pb.TransactionResponse) (object, error) {
	o, err := toObject(t)
	if err != nil {
		return nil, err
	}
	branches, _ := o["branches"].([]any)
	for i, b := range branches {
		if branch, ok := b.(map[string]any); ok {
			object(branch).setBytes("result", t.GetBranches()[i].GetResult())
		}
	}
	return o, nil
}

// transaction prints one transaction.
func (o *output) transaction(t *pb.TransactionResponse) error {
	value, err := transactionObject(t)
	if err != nil {
		return err
	}
	return o.print(value, func(w io.Writer) error { return transactionTable(w, t) })
}

func transactionTable(w io.Writer, t *pb.TransactionResponse) error {
	head := newGrid(w)
	head.row("ID", t.GetId())
	head.row("STATE", stateName(t.GetState()))
	head.row("OUTCOME", outcomeName(t.GetOutcome()))
	if t.GetReason() != nil {
		head.row("REASON", reasonText(t.GetReason()))
	}
	if t.GetAttempt() != nil {
		head.row("ATTEMPT", rpc.AttemptFrom(t.GetAttempt()).String())
	}
	if len(t.GetPending()) > 0 {
		head.row("PENDING", strings.Join(t.GetPending(), ", "))
	}
	if t.GetNeedsOperator() {
		head.row("NEEDS OPERATOR", "yes: see 'concordat tx resolve --help'")
	}
	if err := head.flush(); err != nil {
		return err
	}
	if len(t.GetBranches()) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	g := newGrid(w, "PARTICIPANT", "VOTE", "SETTLED", "RESULT", "REASON")
	for _, b := range t.GetBranches() {
		g.row(b.GetParticipant(), dash(strip(b.GetVote().String(), "VOTE_")), settledName(b.GetSettled()),
			resultText(b), reasonText(b.GetReason()))
	}
	return g.flush()
}

// transactionsTable prints one line a transaction.
func transactionsTable(w io.Writer, list []*pb.TransactionResponse) error {
	g := newGrid(w, "ID", "STATE", "ATTEMPT", "PARTICIPANTS", "PENDING", "REASON")
	for _, t := range list {
		var names []string
		for _, b := range t.GetBranches() {
			names = append(names, b.GetParticipant())
		}
		state := stateName(t.GetState())
		if t.GetNeedsOperator() {
			state += "!"
		}
		attempt := "-"
		if t.GetAttempt() != nil {
			attempt = rpc.AttemptFrom(t.GetAttempt()).String()
		}
		g.row(t.GetId(), state, attempt, dash(strings.Join(names, ",")), dash(strings.Join(t.GetPending(), ",")),
			dash(reasonText(t.GetReason())))
	}
	return g.flush()
}

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
