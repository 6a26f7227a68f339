package mysql

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
)

var errKilled = errors.New("killed by the test")

// conformanceHarness crashes the process's part: its connections are gone, and
// what was prepared is the database's alone.
func conformanceHarness(t testing.TB) participanttest.Harness {
	dsn, db := newDatabase(t)
	var m *Manager
	var countdown atomic.Int64
	var when participanttest.When
	around := func(write func() error) error {
		if countdown.Add(-1) != 0 {
			return write()
		}
		if when == participanttest.Before {
			_ = m.Close()
			return errKilled
		}
		err := write()
		_ = m.Close()
		return errors.Join(err, errKilled)
	}
	t.Cleanup(func() {
		if m != nil {
			_ = m.Close()
		}
	})
	return participanttest.Harness{
		Open: func(ctx context.Context) (_ participant.ResourceManager, err error) {
			m, err = Open(ctx, Options{Name: "suite", DSN: dsn, Work: count, around: around})
			return m, err
		},
		Crash:   func() error { return m.Close() },
		Work:    func(key string) []byte { return []byte(key) },
		Refused: func(key string) []byte { return []byte("refuse:" + key) },
		Effect:  func(ctx context.Context, key string) (int64, error) { return counted(ctx, db, key) },
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
