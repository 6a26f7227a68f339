package kv

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
	"github.com/concordat-tx/concordat/rpc/pb"
)

var errKilled = errors.New("killed by the test")

// kill abandons a store: what is queued or in flight fails, and nothing more
// is written. Closing bbolt writes nothing either.
func (s *Store) kill() error {
	s.file.Fail(errKilled)
	return s.Close()
}

// conformanceHarness crashes a real store on a real file.
func conformanceHarness(t testing.TB) participanttest.Harness {
	path := newPath(t)
	var store *Store
	var countdown atomic.Int64
	var when participanttest.When
	around := func(sync func() error) error {
		if countdown.Add(-1) != 0 {
			return sync()
		}
		if when == participanttest.Before {
			return errKilled
		}
		return errors.Join(sync(), errKilled)
	}
	t.Cleanup(func() {
		if store != nil {
			_ = store.Close()
		}
	})
	return participanttest.Harness{
		Open: func(context.Context) (_ participant.ResourceManager, err error) {
			store, err = Open(path, Options{
				Sync: around,
				Fatal: func(err error) {
					if !errors.Is(err, errKilled) {
						t.Errorf("fatal: %v", err)
					}
				},
			})
			return store, err
		},
		Crash: func() error { return store.kill() },
		Work:  func(key string) []byte { return []byte(ops(add(key, 1))) },
		Refused: func(key string) []byte {
			return []byte(ops(add(key, 1) + `,{"op":"check","key":"never","exists":true}`))
		},
		Effect: func(ctx context.Context, key string) (int64, error) {
			r, err := store.Read(ctx, &pb.ReadRequest{Keys: []string{key}, Stale: true})
			if err != nil {
				return 0, err
			}
			return number(t, r.Items[0]), nil
		},
		CrashAtWrite: func(n int, w participanttest.When) {
			when = w
			countdown.Store(int64(n))
		},
		Exclusive: true,
	}
}

func TestConformance(t *testing.T) {
	participanttest.Run(t, conformanceHarness)
}
