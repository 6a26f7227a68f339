package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	if final := l.finalLists(all); final != nil {
		l.auditLists(final)
	}
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

// finalLists are the lists that were begun, as they are in the end.
func (l *load) finalLists(all data) map[cell][]int {
	final := map[cell][]int{}
	for c, v := range all {
		if strings.HasPrefix(c.key, "list/") {
			var list []int
			if err := json.Unmarshal([]byte(v), &list); err != nil {
				l.world.fail("%v is %s: %v", c, v, err)
				return nil
			}
			final[c] = list
		}
	}
	return final
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
