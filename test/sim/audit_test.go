package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// data is everything that the participants hold, as they hold it in the end.
type data map[cell]string

func (w *world) readAll() data {
	all := data{}
	for _, host := range w.partHosts {
		after := ""
		for {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			r, err := w.client.ScanKV(ctx, host, &pb.ScanRequest{After: after, Limit: 5000})
			cancel()
			if err != nil {
				w.fail("scan %s: %v", host, err)
				return nil
			}
			for _, item := range r.GetItems() {
				all[cell{host, item.GetKey()}] = string(item.GetValueJson())
				after = item.GetKey()
			}
			if !r.GetMore() {
				break
			}
		}
	}
	return all
}

// resolveRest learns the outcome of what is still unknown, when all is whole again.
func (l *load) resolveRest() {
	for _, t := range l.told {
		if t.outcome != pb.Outcome_OUTCOME_UNSPECIFIED || t.refused {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		r, err := l.world.client.Abort(ctx, &pb.AbortRequest{Id: t.id, Since: &t.since})
		cancel()
		switch {
		case rpc.ReasonOf(err) == rpc.ReasonExpired: // forgotten since: the data say what became of it
		case err != nil:
			l.world.fail("%s: its outcome cannot be learned: %v", t.id, err)
		default:
			t.outcome, t.reason = r.GetOutcome(), r.GetReason()
		}
	}
}

// audit compares what clients were told with what the participants hold.
func (l *load) audit(all data) {
	w := l.world
	for _, t := range l.told {
		var has []string
		for _, host := range t.participants {
			switch v, ok := all[cell{host, fmt.Sprintf("done/%06d", t.n)}]; {
			case !ok:
			case v == "1":
				has = append(has, host)
			default:
				w.fail("%s was executed %s times at %s", t.id, v, host)
			}
		}
		switch {
		case len(has) != 0 && len(has) != len(t.participants):
			w.fail("%s is half done: in %v of %v, told %v", t.id, has, t.participants, t.outcome)
		case t.outcome == pb.Outcome_COMMIT && len(has) == 0:
			w.fail("%s was acknowledged as COMMIT and is lost", t.id)
		case t.outcome == pb.Outcome_ABORT && len(has) != 0:
			w.fail("%s was told ABORT and is committed", t.id)
		case t.refused && len(has) != 0:
			w.fail("%s was refused and is committed: begun %s, refused with %v", t.id, t.began.Sub(w.began), t.err)
		}
		if t.outcome == pb.Outcome_OUTCOME_UNSPECIFIED && !t.refused && len(has) > 0 {
			t.outcome = pb.Outcome_COMMIT // the data say so
		}
	}
	l.auditMoney(all)
	l.auditLists(all)
}

func (l *load) auditMoney(all data) {
	sum := 0
	for c, v := range all {
		if strings.HasPrefix(c.key, "acct/") {
			n := 0
			if _, err := fmt.Sscan(v, &n); err != nil || n < 0 {
				l.world.fail("%v is %s", c, v)
			}
			sum += n
		}
	}
	if want := len(l.world.partHosts) * accounts * opening; sum != want {
		l.world.fail("there is %d money, and there was %d", sum, want)
	}
}

// auditLists: a list has the elements of the committed transactions that
// appended to it, each once; what a transaction read is a prefix of it that has
// its own element; and whoever began after another had ended saw what that one did.
func (l *load) auditLists(all data) {
	w := l.world
	final, by := map[cell][]int{}, map[int]*told{}
	for c, v := range all {
		if strings.HasPrefix(c.key, "list/") {
			var list []int
			if err := json.Unmarshal([]byte(v), &list); err != nil {
				w.fail("%v is %s: %v", c, v, err)
			}
			final[c] = list
		}
	}
	for _, t := range l.told {
		by[t.n] = t
	}
	for c, list := range final {
		for i, n := range list {
			if slices.Contains(list[:i], n) {
				w.fail("%v has %d twice", c, n)
			}
			if t := by[n]; t == nil || t.outcome != pb.Outcome_COMMIT || !slices.Contains(t.appended, c) {
				w.fail("%v has %d, which no committed transaction appended", c, n)
			}
		}
	}
	for _, t := range append(slices.Clone(l.told), l.looks...) {
		if t.outcome != pb.Outcome_COMMIT {
			continue
		}
		for _, c := range t.appended {
			if !slices.Contains(final[c], t.n) {
				w.fail("%s appended to %v and is not in it", t.id, c)
			}
		}
		for c, seen := range t.read {
			if len(seen) > len(final[c]) || !slices.Equal(seen, final[c][:len(seen)]) {
				w.fail("%s read %v of %v, which in the end is %v", t.id, seen, c, final[c])
			}
			if slices.Contains(t.appended, c) && !slices.Contains(seen, t.n) {
				w.fail("%s does not see its own element of %v", t.id, c)
			}
		}
	}
	l.auditOrder(final)
}

// auditOrder finds real-time violations and cycles: see serial_test.go.
func (l *load) auditOrder(final map[cell][]int) {
	if err := serializable(append(slices.Clone(l.told), l.looks...), final); err != nil {
		l.world.fail("%v", err)
	}
}

// unwantedAborts are those that a fault of the coordinators alone must not cause.
func (l *load) unwantedAborts() (err error) {
	for _, t := range l.told {
		if t.outcome != pb.Outcome_ABORT {
			continue
		}
		switch t.reason.GetCode() {
		case pb.Reason_CONDITION, pb.Reason_CONFLICT, pb.Reason_REQUESTED:
		default:
			err = errors.Join(err, fmt.Errorf("%s aborted: %v", t.id, t.reason))
		}
	}
	return err
}
