package http

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
	"github.com/concordat-tx/concordat/rpc/pb"
)

var errKilled = errors.New("killed by the test")

// kill abandons a Manager: nothing more is written.
func (m *Manager) kill() error {
	m.file.Fail(errKilled)
	return m.Close()
}

// conformanceHarness crashes a real journal in front of a real service.
func conformanceHarness(t testing.TB) participanttest.Harness {
	s := newService(t)
	path := filepath.Join(t.TempDir(), "journal.db")
	var m *Manager
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
		if m != nil {
			_ = m.Close()
		}
		s.settledButHeld()
	})
	return participanttest.Harness{
		Open: func(context.Context) (_ participant.ResourceManager, err error) {
			m, err = Open(path, Options{
				Name: "suite", URL: s.server.URL, Secret: testSecret, sync: around,
				Fatal: func(err error) {
					if !errors.Is(err, errKilled) {
						t.Errorf("fatal: %v", err)
					}
				},
			})
			return m, err
		},
		Crash:   func() error { return m.kill() },
		Work:    func(key string) []byte { return fmt.Appendf(nil, `{"flight":%q,"seats":1}`, key) },
		Refused: func(key string) []byte { return fmt.Appendf(nil, `{"flight":%q,"seats":%d}`, key, capacity+1) },
		Effect: func(_ context.Context, key string) (int64, error) {
			return s.confirmed(key), nil
		},
		CrashAtWrite: func(n int, w participanttest.When) {
			when = w
			countdown.Store(int64(n))
		},
		RefusedCode: pb.Reason_APPLICATION,
		Outside:     true,
	}
}

// settledButHeld is settled, but for what a check left prepared.
func (s *service) settledButHeld() {
	for key, l := range s.ledger() {
		if l.State == "reserved" && l.Events[len(l.Events)-1] != "try 200" {
			s.t.Errorf("%s is still reserved: %q", key, l.Events)
		}
	}
}

func TestConformance(t *testing.T) {
	participanttest.Run(t, conformanceHarness)
}
