package mysql

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// The database shows which transaction waits for which, by numbers of its own,
// and what is prepared, by its name; nowhere both. The number of a branch is
// found by its session, if it has one, and else by who stands in the way of a
// probe that asks for the lock of its entry.

// maxProbes bounds the sessions that probe at the same time.
const maxProbes = 4

// sqlLockWaits are the pairs of transactions of which one waits for the other.
func (s server) sqlLockWaits() string {
	if s.mariaDB || s.major < 8 {
		return "SELECT requesting_trx_id, blocking_trx_id FROM information_schema.innodb_lock_waits"
	}
	// By its documentation. The user needs SELECT on it.
	return "SELECT requesting_engine_transaction_id, blocking_engine_transaction_id FROM performance_schema.data_lock_waits"
}

// blocks fills in which sessions wait for each branch of the list. A branch
// that cannot be told from another one is said to block nobody.
func (m *Manager) blocks(ctx context.Context, list []Prepared) error {
	v, err := m.attached.after(ctx, time.Now())
	if err != nil || len(v.waits) == 0 || len(list) == 0 {
		return err
	}
	behind := map[string][]uint64{} // by the number of whom they wait for
	for _, w := range v.waits {
		if session := v.session[w.waits]; session != 0 && !slices.Contains(behind[w.blocks], session) {
			behind[w.blocks] = append(behind[w.blocks], session)
		}
	}
	whose, err := m.numbers(ctx, v, list, behind)
	if err != nil {
		return err
	}
	for trx, i := range whose {
		slices.Sort(behind[trx])
		list[i].Blocks = behind[trx]
	}
	return nil
}

// numbers finds the branches of the list, by their place in it, that those who
// are waited for are.
func (m *Manager) numbers(ctx context.Context, v view, list []Prepared, behind map[string][]uint64) (map[string]int, error) {
	whose, loose := map[string]int{}, []int{}
	for i, p := range list {
		session, err := m.sessionOf(ctx, p)
		if err != nil {
			return nil, err
		}
		if session == 0 {
			loose = append(loose, i)
			continue
		}
		for trx := range behind {
			if v.session[trx] == session {
				whose[trx] = i
			}
		}
	}
	unknown := func() (left []string) {
		for trx := range behind {
			if _, known := whose[trx]; !known && v.session[trx] == 0 { // only what is prepared goes on without a session
				left = append(left, trx)
			}
		}
		return left
	}
	for len(loose) > 1 && len(unknown()) > 0 {
		ours := slices.IndexFunc(loose, func(i int) bool { return list[i].Kinship == sqlbranch.Ours })
		if ours < 0 {
			return whose, nil // two strangers, and no telling which is which
		}
		var some []int
		for len(some) < maxProbes && ours >= 0 {
			some, loose = append(some, loose[ours]), slices.Delete(loose, ours, ours+1)
			ours = slices.IndexFunc(loose, func(i int) bool { return list[i].Kinship == sqlbranch.Ours })
		}
		if err := m.probeFor(ctx, list, some, whose); err != nil {
			return nil, err
		}
	}
	if left := unknown(); len(left) == 1 && len(loose) == 1 {
		whose[left[0]] = loose[0]
	}
	return whose, nil
}

// sessionOf is the session that a branch of ours is still attached to; 0 if there is none.
func (m *Manager) sessionOf(ctx context.Context, p Prepared) (session uint64, err error) {
	if p.Kinship != sqlbranch.Ours {
		return 0, nil
	}
	err = m.control.QueryRowContext(ctx, "SELECT COALESCE(IS_USED_LOCK(?), 0)", m.lockName(p.Ref)).Scan(&session)
	return session, err
}

// probeFor asks for the locks of the entries of some branches, in a session
// each, and reads who is in its way. A probe writes nothing, and the branch does
// not notice; it gives up with ctx, or when no lock is waited for any longer.
func (m *Manager) probeFor(ctx context.Context, list []Prepared, some []int, whose map[string]int) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	ended := make(chan uint64, len(some))
	probes := map[uint64]int{} // the branch that a session asks for
	for _, i := range some {
		c, err := m.control.Conn(ctx)
		if err != nil {
			return err
		}
		var session uint64
		if err := c.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&session); err != nil {
			_ = c.Close()
			return err
		}
		probes[session] = i
		wg.Go(func() {
			_, _ = c.ExecContext(ctx, "SELECT 1 FROM concordat_entry WHERE "+m.row(list[i].Ref.ID)+" FOR UPDATE")
			_ = c.Close()
			ended <- session
		})
	}
	for len(probes) > 0 {
		v, err := m.attached.after(ctx, time.Now())
		if err != nil {
			return err
		}
		for _, w := range v.waits {
			if i, probing := probes[v.session[w.waits]]; probing && v.session[w.blocks] == 0 {
				whose[w.blocks] = i
				delete(probes, v.session[w.waits])
			}
		}
		for more := true; more; {
			select {
			case session := <-ended: // its branch has ended
				delete(probes, session)
			default:
				more = false
			}
		}
	}
	return nil
}
