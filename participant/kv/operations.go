package kv

import (
	"fmt"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Operations is the standard Handler: it runs a payload of rpc/kvop, in order,
// each operation seeing what those before it did.
func Operations(tx *Tx, payload []byte) ([]byte, error) {
	ops, err := kvop.Parse(payload)
	if err != nil {
		return nil, &AbortError{Code: pb.Reason_INVALID, Message: err.Error()}
	}
	// All keys are known, so each is locked at once as strongly as it will be
	// needed: an upgrade would only be one more thing to die of.
	modes := make(map[string]mode, len(ops))
	for _, op := range ops {
		modes[op.Key] = max(modes[op.Key], modeOf(op))
	}
	if err := tx.lock(modes); err != nil {
		return nil, err
	}
	var results []kvop.Result
	for _, op := range ops {
		if op.Kind == kvop.Get {
			v, exists, err := tx.Get(op.Key)
			if err != nil {
				return nil, err
			}
			results = append(results, kvop.Result{Key: op.Key, Exists: exists, Value: v})
			continue
		}
		if err := run(tx, op); err != nil {
			return nil, err
		}
	}
	return encodeResults(results)
}

func modeOf(op kvop.Op) mode {
	if op.Kind.Writes() {
		return exclusive
	}
	return shared
}

func run(tx *Tx, op kvop.Op) error {
	switch op.Kind {
	case kvop.Put:
		return tx.Put(op.Key, op.Value)
	case kvop.Delete:
		return tx.Delete(op.Key)
	case kvop.Append:
		return tx.Append(op.Key, op.Values...)
	case kvop.Add:
		_, err := tx.Add(op.Key, op.Delta, op.Min, op.Max)
		return err
	case kvop.Check:
		return require(tx, op)
	}
	return fmt.Errorf("operation %s is not implemented", op.Kind)
}

func require(tx *Tx, op kvop.Op) error {
	v, exists, err := tx.Get(op.Key)
	switch {
	case err != nil:
		return err
	case op.Exists != nil && *op.Exists != exists:
		return Abort("check key %s: found %s, exists should be %t", quoteKey(op.Key), describe(v), *op.Exists)
	case op.Equals != nil && !op.Equals.Equal(v):
		return Abort("check key %s: found %s, expected %s", quoteKey(op.Key), describe(v), describe(*op.Equals))
	}
	return nil
}

// encodeResults refuses what is too large before it is built.
func encodeResults(results []kvop.Result) ([]byte, error) {
	size := 0
	for _, r := range results {
		size += len(r.Key) + r.Value.Size()
	}
	var b []byte
	if size <= fsm.MaxResultBytes {
		if b = kvop.EncodeResults(results); len(b) <= fsm.MaxResultBytes {
			return b, nil
		}
		size = len(b)
	}
	return nil, Abort("the values read are %d bytes, a result may have %d: get fewer keys", size, fsm.MaxResultBytes)
}
