package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// prefixRoot begins every key of every run; the run's own mark follows.
	prefixRoot = "bench/"
	// chunkOps and chunkBytes bound one transaction that loads or deletes keys:
	// well within a node's limits also where these were lowered.
	chunkOps   = 128
	chunkBytes = 24 << 10
	// chunkBudget is its prepare budget, chunkPatience how long it may take in all.
	chunkBudget   = 30 * time.Second
	chunkPatience = 45 * time.Second
	// chunksAtOnce is how many of them are under way.
	chunksAtOnce = 4
	// countersAtOnce is how many counters one read asks for.
	countersAtOnce = 500
	// sumPatience is how long that read may take: prepared writers are waited for.
	sumPatience = 30 * time.Second
)

// data are the keys of one run, in each of its participants: key k is a
// counter and, unless values have no size, a value beside it.
type data struct {
	prefix string
	cfg    Config
	names  []string
	// text is what values are cut from.
	text string
}

func newData(mark string, cfg Config, names []string) *data {
	return &data{
		prefix: prefixRoot + mark + "/", cfg: cfg, names: names,
		text: strings.Repeat("abcdefghijklmnopqrstuvwxyz0123456789", cfg.Payload/36+2),
	}
}

func (d *data) counter(k int) string { return fmt.Sprintf("%sn/%06d", d.prefix, k) }
func (d *data) value(k int) string   { return fmt.Sprintf("%sv/%06d", d.prefix, k) }

// readKey is the key that a read of k asks for.
func (d *data) readKey(k int) string {
	if d.cfg.Payload == 0 {
		return d.counter(k)
	}
	return d.value(k)
}

// content is a value; which of 36 depends on turn.
func (d *data) content(turn uint64) kvop.Value {
	from := int(turn % 36)
	return kvop.Text(d.text[from : from+d.cfg.Payload])
}

// payload is that of a branch that counts at key k.
func (d *data) payload(k int, turn uint64) []byte {
	ops := []kvop.Op{{Kind: kvop.Add, Key: d.counter(k), Delta: 1}}
	if d.cfg.Payload > 0 {
		ops = append(ops, kvop.Op{Kind: kvop.Put, Key: d.value(k), Value: d.content(turn)})
	}
	return kvop.Encode(ops)
}

// load makes every key in every participant, and waits until all have them.
func (d *data) load(ctx context.Context, client *rpc.Client) error {
	return d.each(ctx, client, func(k int) []kvop.Op {
		ops := []kvop.Op{{Kind: kvop.Put, Key: d.counter(k), Value: kvop.Number(0)}}
		if d.cfg.Payload > 0 {
			ops = append(ops, kvop.Op{Kind: kvop.Put, Key: d.value(k), Value: d.content(0)})
		}
		return ops
	})
}

// remove deletes every key in every participant.
func (d *data) remove(ctx context.Context, client *rpc.Client) error {
	return d.each(ctx, client, func(k int) []kvop.Op {
		ops := []kvop.Op{{Kind: kvop.Delete, Key: d.counter(k)}}
		if d.cfg.Payload > 0 {
			ops = append(ops, kvop.Op{Kind: kvop.Delete, Key: d.value(k)})
		}
		return ops
	})
}

// chunk is one transaction that loads or deletes keys of one participant.
type chunk struct {
	participant string
	payload     []byte
}

// each runs the operations of every key in every participant, some at a time;
// the first error ends it.
func (d *data) each(ctx context.Context, client *rpc.Client, opsOf func(k int) []kvop.Op) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunks := make(chan chunk)
	var wg sync.WaitGroup
	for range chunksAtOnce {
		wg.Go(func() {
			for c := range chunks {
				if err := c.run(ctx, client); err != nil {
					cancel(err)
				}
			}
		})
	}
	d.cut(ctx, opsOf, chunks)
	close(chunks)
	wg.Wait()
	return context.Cause(ctx)
}

// cut gathers the operations of all keys into chunks.
func (d *data) cut(ctx context.Context, opsOf func(k int) []kvop.Op, to chan<- chunk) {
	send := func(ops []kvop.Op) bool {
		for _, name := range d.names {
			select {
			case to <- chunk{name, kvop.Encode(ops)}:
			case <-ctx.Done():
				return false
			}
		}
		return true
	}
	var ops []kvop.Op
	size := 0
	for k := range d.cfg.Keys {
		more := opsOf(k)
		bytes := len(kvop.Encode(more))
		if len(ops) > 0 && (len(ops)+len(more) > chunkOps || size+bytes > chunkBytes) {
			if !send(ops) {
				return
			}
			ops, size = nil, 0
		}
		ops, size = append(ops, more...), size+bytes
	}
	send(ops)
}

// run submits the chunk.
func (c chunk) run(ctx context.Context, client *rpc.Client) error {
	ctx, cancel := context.WithTimeout(ctx, chunkPatience)
	defer cancel()
	req := &pb.SubmitRequest{
		Branches: []*pb.Branch{{Participant: c.participant, Payload: c.payload}},
		Wait:     pb.Wait_COMPLETED, Timeout: durationpb.New(chunkBudget),
	}
	resp, err := client.Submit(ctx, req)
	if err != nil {
		// Not as an UnknownOutcome, whose advice is for whoever made the id.
		return rpc.FromError(err)
	}
	if resp.GetOutcome() != pb.Outcome_COMMIT {
		return fmt.Errorf("a transaction aborted: %s at %s: %s",
			abortName(resp.GetReason().GetCode()), c.participant, resp.GetReason().GetMessage())
	}
	return nil
}

// sum adds up the counters of one participant.
func (d *data) sum(ctx context.Context, client *rpc.Client, name string) (int64, error) {
	total := int64(0)
	for from := 0; from < d.cfg.Keys; from += countersAtOnce {
		var keys []string
		for k := from; k < min(from+countersAtOnce, d.cfg.Keys); k++ {
			keys = append(keys, d.counter(k))
		}
		items, err := readWithin(ctx, client, sumPatience, name, keys...)
		if err != nil {
			return 0, err
		}
		if len(items) != len(keys) {
			return 0, fmt.Errorf("%s answers %d of %d keys", name, len(items), len(keys))
		}
		for i, item := range items {
			v, err := kvop.ParseValue(item.GetValueJson(), kvop.MaxValueBytes)
			n, isNumber := v.Number()
			if err != nil || !isNumber {
				return 0, errors.Join(fmt.Errorf("%s holds no number under %s", name, keys[i]), err)
			}
			total += n
		}
	}
	return total, nil
}

func readWithin(ctx context.Context, client *rpc.Client, d time.Duration, name string, keys ...string) ([]*pb.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return client.ReadKV(ctx, name, keys...)
}
