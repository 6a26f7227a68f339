package drive

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestPendingIsWhatBeginMakes: but for what only the log knows, the record that
// the overlapped order drives is the one that the state machine makes.
func TestPendingIsWhatBeginMakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := fsm.New()
		apply := func(index uint64, c ...*fsmpb.Command) []fsm.Result {
			entry, err := fsm.EncodeBatch(5, c)
			if err != nil {
				t.Fatal(err)
			}
			results, err := m.Apply(index, 5, entry)
			if err != nil {
				t.Fatal(err)
			}
			return results
		}
		index := uint64(1)
		apply(index, &fsmpb.Command{Kind: &fsmpb.Command_Establish{Establish: &fsmpb.Establish{ClusterId: "c0ffee", Node: &fsmpb.NodeAddress{Id: "n1", RpcAddress: "n1:7000"}}}})
		req := &pb.SubmitRequest{Id: rapid.StringMatching(`[a-z0-9-]{1,20}`).Draw(t, "id")}
		if rapid.Bool().Draw(t, "since") {
			since := uint64(7)
			req.Since = &since
		}
		for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "branches")] {
			index++
			apply(index, &fsmpb.Command{Kind: &fsmpb.Command_RegisterParticipant{RegisterParticipant: &fsmpb.RegisterParticipant{
				Name: name, Endpoints: []string{name + ":9000"}, Incarnation: name + "-1",
			}}})
			req.Branches = append(req.Branches, &pb.Branch{Participant: name, Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload")})
		}
		content, digests := ContentDigest(req.GetBranches())
		attempt := fsm.Attempt{Generation: m.Generation(), Term: 5, Sequence: 3}
		begin := BeginCommand(req, attempt, digests, false)
		pending := Pending(req, attempt, digests)
		got := apply(index+1, &fsmpb.Command{Kind: &fsmpb.Command_Begin{Begin: begin}})[0]
		if got.Rejection != nil {
			t.Fatal(got.Rejection)
		}
		made := *got.Txn
		made.BeginIndex, made.BegunMS = 0, 0
		for i := range made.Branches { // nil or empty, nobody can tell
			if len(made.Payload(i)) == 0 && len(pending.Payload(i)) == 0 {
				made.Branches[i].Detail, pending.Branches[i].Detail = nil, nil
			}
		}
		if !reflect.DeepEqual(pending, &made) {
			t.Errorf("pending %+v, made %+v", pending, made)
		}
		if made.Digest() != content {
			t.Error("the record is of another content")
		}
		req.RetryOf = "earlier"
		if Pending(req, attempt, digests) != nil {
			t.Error("the priority of a retry was guessed")
		}
	})
}
