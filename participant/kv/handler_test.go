package kv

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// seats is a service's own branch: its payload is a flight, and it gives out
// the next free seat of twelve.
func seats(tx *Tx, payload []byte) ([]byte, error) {
	flight := string(payload)
	limit := int64(12)
	seat, err := tx.Add("taken/"+flight, 1, nil, &limit)
	if err != nil {
		return nil, err
	}
	if err := tx.Append("seats/"+flight, kvop.Number(seat)); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "seat %d", seat), nil
}

func handlerStore(t *testing.T, h Handler) *Store {
	return openWith(t, newPath(t), Options{Handler: h, Kind: "seats", Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
}

func TestHandler(t *testing.T) {
	s := handlerStore(t, seats)
	for i := range 12 {
		v := runTx(t, s, work(fmt.Sprintf("t%d", i), uint64(i+1), "LH1"))
		if want := fmt.Sprintf("seat %d", i+1); string(v.Result) != want {
			t.Errorf("result %q, want %q", v.Result, want)
		}
	}
	v := aborted(t, s, work("t12", 13, "LH1"), pb.Reason_CONDITION)
	if !strings.Contains(v.Message, "found 12") {
		t.Errorf("message %q", v.Message)
	}
	if got := value(t, s, "seats/LH1"); got != "[1,2,3,4,5,6,7,8,9,10,11,12]" {
		t.Errorf("seats %s", got)
	}
}

// Nodes read the payloads of kind "kv" and refuse what is no list of operations:
// a store with another payload must not be taken for one.
func TestStoreWithAHandlerIsOfAnotherKind(t *testing.T) {
	for want, options := range map[string]Options{"kv": {}, "service": {Handler: seats}, "seats": {Handler: seats, Kind: "seats"}} {
		id, err := openWith(t, newPath(t), options).Identity(t.Context())
		if err != nil || id.Kind != want {
			t.Errorf("of kind %q, %v, want %q", id.Kind, err, want)
		}
	}
}

func TestHandlerErrors(t *testing.T) {
	var kept *Tx
	tests := []struct {
		name      string
		handler   Handler
		code      pb.Reason_Code
		transient bool
	}{
		{"condition", func(*Tx, []byte) ([]byte, error) { return nil, Abort("no %s", "way") }, pb.Reason_CONDITION, false},
		{"own code", func(*Tx, []byte) ([]byte, error) { return nil, &AbortError{pb.Reason_EXHAUSTED, "full"} }, pb.Reason_EXHAUSTED, false},
		{"plain error", func(*Tx, []byte) ([]byte, error) { return nil, errors.New("broken") }, pb.Reason_FAILED, false},
		{"transient", func(*Tx, []byte) ([]byte, error) { return nil, participant.Transient(errors.New("busy")) }, 0, true},
		{"large result", func(*Tx, []byte) ([]byte, error) { return make([]byte, 64<<10+1), nil }, pb.Reason_CONDITION, false},
		{"error passed over", func(tx *Tx, _ []byte) ([]byte, error) { _ = tx.Put("", kvop.Number(1)); return nil, nil }, pb.Reason_INVALID, false},
		{"bad value", func(tx *Tx, _ []byte) ([]byte, error) {
			return nil, tx.Put("k", kvop.ListOf(kvop.ListOf()))
		}, pb.Reason_CONDITION, false},
		{"too many keys", func(tx *Tx, _ []byte) ([]byte, error) {
			for i := range MaxBranchKeys + 1 {
				if _, _, err := tx.Get(fmt.Sprint(i)); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}, pb.Reason_INVALID, false},
		{"too many bytes", func(tx *Tx, _ []byte) ([]byte, error) {
			for i := range 17 {
				if err := tx.Put(fmt.Sprint(i), kvop.Text(strings.Repeat("v", MaxStoredBytes))); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}, pb.Reason_CONDITION, false},
		{"keeps its Tx", func(tx *Tx, _ []byte) ([]byte, error) { kept = tx; return nil, tx.Lock("b", "a") }, 0, false},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := handlerStore(t, tt.handler)
			v, err := s.Prepare(soon(t), work("t", uint64(i+1), "x"))
			switch {
			case tt.transient:
				if !participant.IsTransient(err) {
					t.Errorf("got %v %v", v, err)
				}
			case err != nil || v.Code != tt.code:
				t.Errorf("got %v %v, want %v", v, err, tt.code)
			}
			if tt.code != 0 && s.Locks() != 0 {
				t.Errorf("%d locks are left", s.Locks())
			}
		})
	}
	if err := kept.Put("k", kvop.Number(1)); !errors.Is(err, errTxEnded) {
		t.Errorf("a Tx after its end: %v", err)
	}
}

// TestHandlerUpgradesItsLocks: a handler that reads first and writes later
// still never loses an update.
func TestHandlerUpgradesItsLocks(t *testing.T) {
	s := handlerStore(t, func(tx *Tx, _ []byte) ([]byte, error) {
		v, _, err := tx.Get("n")
		if err != nil {
			return nil, err
		}
		n, _ := v.Number()
		return nil, tx.Put("n", kvop.Number(n+1))
	})
	d := &driver{t: t, stores: []*Store{s}}
	done := make(chan struct{})
	const workers, rounds = 8, 10
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for range rounds {
				if votes, ok := d.submit([]string{"x"}); !ok {
					t.Errorf("%+v", votes)
				}
			}
		}()
	}
	for range workers {
		<-done
	}
	if got := value(t, s, "n"); got != fmt.Sprint(workers*rounds) {
		t.Errorf("n is %s after %d additions", got, workers*rounds)
	}
}
