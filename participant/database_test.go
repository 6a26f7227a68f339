package participant_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// moved is a counter over a database that may become another instance.
type moved struct {
	*counter
	now, bound atomic.Pointer[string]
}

func (m *moved) Census(context.Context) (*pb.CensusResponse, error) {
	return &pb.CensusResponse{Capacity: 7}, nil
}

func (m *moved) Diagnose(context.Context) ([]*pb.Finding, error) {
	return []*pb.Finding{{Level: pb.Finding_FINE, Subject: "counts"}}, nil
}

func (m *moved) Instance() (now, bound string) { return *m.now.Load(), *m.bound.Load() }

func (m *moved) AcceptInstance(_ context.Context, instance string) error {
	if instance != *m.now.Load() {
		return participant.ErrInstance
	}
	m.bound.Store(&instance)
	return nil
}

// A database that becomes another instance is alerted until an operator accepts
// it, the one that it is and no other.
func TestOtherInstanceIsAlertedUntilItIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := "one", "two"
		m := &moved{}
		m.now.Store(&one)
		m.bound.Store(&one)
		f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
			m.counter = c
			cfg.ResourceManager = m
		})
		alerted := func() []*pb.Alert {
			time.Sleep(time.Second) // virtual: the instance is looked at
			synctest.Wait()
			d, err := f.server.Describe(f.ctx(), nil)
			if err != nil || d.GetInstance() != *m.now.Load() || d.GetBoundInstance() != *m.bound.Load() {
				t.Errorf("described %v, %v", d, err)
			}
			return d.GetAlerts()
		}
		if list := alerted(); len(list) > 0 {
			t.Errorf("alerts %v", list)
		}
		m.now.Store(&two)
		list := alerted()
		if len(list) != 1 || list[0].GetName() != "instance" || len(list[0].GetTransactions()) > 0 || !strings.Contains(list[0].GetAction(), "accept-instance p") {
			t.Fatalf("alerts %v", list)
		}
		for _, wrong := range []string{"", "three", "one"} {
			_, err := f.server.AcceptInstance(f.ctx(), &pb.AcceptInstanceRequest{Instance: wrong})
			if rpc.ReasonOf(err) != rpc.ReasonInvalidArgument {
				t.Errorf("accepting %q: %v", wrong, err)
			}
		}
		r, err := f.server.AcceptInstance(f.ctx(), &pb.AcceptInstanceRequest{Instance: "two", Operator: "ann"})
		if err != nil || r.GetFormer() != "one" || !strings.Contains(f.log.String(), "operator=ann") {
			t.Errorf("accepted %v, %v", r, err)
		}
		if list := alerted(); len(list) > 0 {
			t.Errorf("alerts %v", list)
		}
		if c, err := f.server.Census(f.ctx(), nil); err != nil || c.GetCapacity() != 7 {
			t.Errorf("census %v, %v", c, err)
		}
		if d, err := f.server.Diagnose(f.ctx(), nil); err != nil || len(d.GetFindings()) != 1 {
			t.Errorf("diagnosis %v, %v", d, err)
		}
		f.server.Close()
	})
}

// A participant without a database says so.
func TestNoDatabase(t *testing.T) {
	f := newFixture(t, inProcess{newLedger(true)}, nil)
	_, census := f.server.Census(f.ctx(), nil)
	_, diagnosis := f.server.Diagnose(f.ctx(), nil)
	_, accept := f.server.AcceptInstance(f.ctx(), &pb.AcceptInstanceRequest{Instance: "x"})
	for _, err := range []error{census, diagnosis, accept} {
		if rpc.ReasonOf(err) != rpc.ReasonUnimplemented || !strings.Contains(err.Error(), "in no database") {
			t.Errorf("%v", err)
		}
	}
}
