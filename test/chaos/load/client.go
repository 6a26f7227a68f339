package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Client calls the cluster and keeps the journal of it.
type Client struct {
	name    string
	rpc     *rpc.Client
	journal *Journal
	budget  time.Duration
	ids     atomic.Int64
}

// NewClient makes a client whose ids begin with its name, which nobody else
// uses. The budget is the time that its transactions may take to be prepared.
func NewClient(ctx context.Context, name string, nodes []string, journal *Journal, budget time.Duration) (*Client, error) {
	c, err := rpc.NewClient(nodes)
	if err != nil {
		return nil, err
	}
	for c.Index() == 0 { // every call has a since of its own making
		if _, err := c.Status(ctx, ""); err != nil && ctx.Err() != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return &Client{name: name, rpc: c, journal: journal, budget: budget}, nil
}

// Close closes the connections, not the journal.
func (c *Client) Close() error { return c.rpc.Close() }

// newID makes an id.
func (c *Client) newID() string { return fmt.Sprintf("%s-%d", c.name, c.ids.Add(1)) }

// Transact submits one transaction, once, and notes how it ended.
func (c *Client) Transact(ctx context.Context, kind Kind, ops []Op, retryOf string) (Call, Answer) {
	call := Call{ID: c.newID(), Kind: kind, Ops: ops, Since: c.rpc.Index(), RetryOf: retryOf}
	return c.send(ctx, call)
}

func (c *Client) send(ctx context.Context, call Call) (Call, Answer) {
	call.At = Now()
	c.journal.write(line{Call: &call})
	a := c.submit(ctx, call)
	c.journal.write(line{Answer: &a})
	return call, a
}

func (c *Client) submit(ctx context.Context, call Call) Answer {
	req := request(call)
	req.Timeout = durationpb.New(c.budget)
	if rand.IntN(4) == 0 {
		req.Wait = pb.Wait_COMPLETED
	}
	resp, err := c.rpc.Submit(ctx, req, rpc.WithConflictRetry(false))
	return answer(call, resp, err)
}

// answer reads what a call came to.
func answer(call Call, resp *pb.TransactionResponse, err error) Answer {
	a := Answer{ID: call.ID, At: Now()}
	var unknown *rpc.UnknownOutcome
	switch {
	case errors.As(err, &unknown):
		a.Outcome, a.Why = Unknown, err.Error()
	case err != nil:
		a.Outcome, a.Why = Refused, err.Error()
	case resp.GetOutcome() == pb.Outcome_COMMIT:
		a.Outcome = Commit
		a.OnePhase = slices.ContainsFunc(resp.GetBranches(), func(b *pb.BranchStatus) bool { return b.GetVote() == pb.Vote_VOTE_COMMITTED })
		if a.Reads, err = readsOf(call, resp); err != nil {
			a.Why = err.Error()
		}
	default:
		a.Outcome = Abort
		a.Why = fmt.Sprintf("%s %s %s", resp.GetReason().GetCode(), resp.GetReason().GetParticipant(), resp.GetReason().GetMessage())
	}
	return a
}

// request is the transaction of a call.
func request(call Call) *pb.SubmitRequest {
	req := &pb.SubmitRequest{Id: call.ID, Since: proto.Uint64(call.Since), RetryOf: call.RetryOf}
	for _, name := range participantsOf(call.Ops) {
		var ops []kvop.Op
		for _, op := range call.Ops {
			if op.Participant == name {
				ops = append(ops, op.kvop())
			}
		}
		req.Branches = append(req.Branches, &pb.Branch{Participant: name, Payload: kvop.Encode(ops)})
	}
	return req
}

// participantsOf are those of the operations, in order.
func participantsOf(ops []Op) []string {
	var names []string
	for _, op := range ops {
		if !slices.Contains(names, op.Participant) {
			names = append(names, op.Participant)
		}
	}
	return names
}

func (op Op) kvop() kvop.Op {
	switch op.Do {
	case "append":
		return kvop.Op{Kind: kvop.Append, Key: op.Key, Values: []kvop.Value{kvop.Number(op.Value)}}
	case "add":
		floor := int64(0)
		return kvop.Op{Kind: kvop.Add, Key: op.Key, Delta: op.Value, Min: &floor}
	case "put":
		return kvop.Op{Kind: kvop.Put, Key: op.Key, Value: kvop.Number(op.Value)}
	}
	return kvop.Op{Kind: kvop.Get, Key: op.Key}
}

// readsOf are the results of a commit in the order of the call's gets, nil if
// the cluster does not have them any more.
func readsOf(call Call, resp *pb.TransactionResponse) ([][]int64, error) {
	found := map[string][]kvop.Result{}
	for _, b := range resp.GetBranches() {
		if b.GetResultUnavailable() {
			return nil, nil
		}
		results, err := kvop.ParseResults(b.GetResult())
		if err != nil {
			return nil, fmt.Errorf("result of %s: %w", b.GetParticipant(), err)
		}
		found[b.GetParticipant()] = results
	}
	reads := [][]int64{}
	for _, op := range call.Ops {
		if op.Do != "get" {
			continue
		}
		results := found[op.Participant]
		if len(results) == 0 || results[0].Key != op.Key {
			return nil, fmt.Errorf("%s gave no result for %s", op.Participant, op.Key)
		}
		reads = append(reads, numbers(results[0].Value))
		found[op.Participant] = results[1:]
	}
	return reads, nil
}

// numbers are a value as a list; nothing is an empty one.
func numbers(v kvop.Value) []int64 {
	list := []int64{}
	if n, ok := v.Number(); ok {
		return append(list, n)
	}
	elements, _ := v.Elements()
	for _, e := range elements {
		n, _ := e.Number() // strings are not written here
		list = append(list, n)
	}
	return list
}

// maxValueBytes of a value that is read: more than any list gets.
const maxValueBytes = 1 << 20

// Read makes a plain read of keys of one participant.
func (c *Client) Read(ctx context.Context, kind Kind, participant string, keys ...string) Answer {
	call := Call{ID: c.newID(), Kind: kind, At: Now()}
	for _, key := range keys {
		call.Ops = append(call.Ops, Op{Participant: participant, Do: "get", Key: key})
	}
	c.journal.write(line{Call: &call})
	items, err := c.rpc.ReadKV(ctx, participant, keys...)
	a := Answer{ID: call.ID, At: Now(), Outcome: Commit, Reads: [][]int64{}}
	for _, item := range items {
		var v kvop.Value
		if item.GetExists() {
			if v, err = kvop.ParseValue(item.GetValueJson(), maxValueBytes); err != nil {
				break
			}
		}
		a.Reads = append(a.Reads, numbers(v))
	}
	if err != nil {
		a.Outcome, a.Why, a.Reads = Refused, err.Error(), nil
	}
	c.journal.write(line{Answer: &a})
	return a
}

// watch looks at the state of a transaction until it is finished or ctx ends.
func (c *Client) watch(ctx context.Context, id string) {
	for ctx.Err() == nil {
		s := State{ID: id, Call: Now()}
		resp, err := c.rpc.Get(ctx, &pb.GetRequest{Id: id})
		s.Return = Now()
		switch {
		case err == nil:
			s.State = resp.GetState().String()
		case rpc.ReasonOf(err) == rpc.ReasonNotFound:
			s.State = notFound
		default:
			return // it says nothing of the state
		}
		c.journal.write(line{State: &s})
		if resp.GetState() == pb.State_STATE_COMMITTED || resp.GetState() == pb.State_STATE_ABORTED {
			return
		}
		time.Sleep(lookPause)
	}
}

const (
	notFound = "NOT_FOUND"
	// lookPause is between two looks at one state.
	lookPause = 5 * time.Millisecond
)

// learnTimeout is how long one try to learn an outcome may take.
const learnTimeout = 10 * time.Second

// Learn learns an unknown outcome by the id: one time by submitting it again,
// the other by aborting it, until there is an answer or ctx ends.
func (c *Client) Learn(ctx context.Context, call Call) Answer {
	for try := rand.IntN(2); ; try++ {
		a := c.learn(ctx, call, try%2 == 0)
		if a.Outcome != Unknown || ctx.Err() != nil {
			c.journal.write(line{Answer: &a})
			return a
		}
	}
}

func (c *Client) learn(ctx context.Context, call Call, again bool) Answer {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	var a Answer
	if again {
		a = c.submit(ctx, call)
	} else {
		resp, err := c.rpc.Abort(ctx, &pb.AbortRequest{Id: call.ID, Since: proto.Uint64(call.Since)})
		a = answer(call, resp, err)
		a.Reads = nil // the answer to an Abort is about the decision
	}
	if a.Outcome == Refused { // of this call; the first one may have begun
		a.Outcome = Unknown
	}
	return a
}
