package crash

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm/failpoint"
)

var (
	only    = flag.String("point", "", "only the points whose role/name contains this")
	all     = flag.Bool("all", false, "every point; otherwise each eighth, from a random one on")
	workers = flag.Int("clusters", 2, "clusters side by side")
)

// every is each point with each role that passes it.
func every() (list []testCase) {
	for _, p := range failpoint.Points() {
		for _, role := range p.Roles {
			list = append(list, testCase{p, role})
		}
	}
	return list
}

// TestEveryPoint crashes each role at each point that it passes, before and
// after, one at a time. What follows must be as if the process had only been slow.
func TestEveryPoint(t *testing.T) {
	cases := slices.DeleteFunc(every(), func(c testCase) bool { return *only != "" && !matches(*only, c) })
	if !*all && *only == "" {
		from := rand.IntN(eachOf)
		t.Logf("each %dth of %d, from %d on; -all for every one", eachOf, len(cases), from)
		cases = slices.DeleteFunc(cases, func(c testCase) bool { from++; return from%eachOf != 0 })
	}
	t.Logf("%d crashes", len(cases))
	shares := share(cases)
	for k := range *workers {
		store := storeOf(k)
		t.Run(fmt.Sprintf("cluster%d-%s", k+1, store), func(t *testing.T) {
			t.Parallel()
			var w *world
			defer func() {
				if w != nil {
					w.close(t)
				}
			}()
			for _, c := range shares[k] {
				t.Run(c.String(), func(t *testing.T) {
					if firstStart(c.point.Name) {
						fresh := newWorld(t, store)
						defer fresh.close(t)
						defer fresh.logsOfFailure(t)
						fresh.firstStart(c)
						return
					}
					if w != nil && w.broken {
						w.close(t)
						w = nil
					}
					if w == nil {
						w = startWorld(t, store)
					}
					w.t = t
					defer w.logsOfFailure(t)
					w.crash(c)
				})
			}
		})
	}
}

// eachOf of the points is crashed at without -all.
const eachOf = 8

// storeOf has every other cluster keep its log in the other store.
func storeOf(k int) cluster.LogStore { return cluster.LogStores[(k+1)%len(cluster.LogStores)] }

// share deals the cases out to the clusters in a random order, so that each point
// is crashed at with one store and with the other, from run to run. Segments are
// in wal only.
func share(cases []testCase) [][]testCase {
	shares := make([][]testCase, *workers)
	for i, n := range rand.Perm(len(cases)) {
		k := i % *workers
		if strings.HasPrefix(cases[n].point.Name, "node.segment.") {
			k -= k % len(cluster.LogStores)
		}
		shares[k] = append(shares[k], cases[n])
	}
	return shares
}

func matches(part string, c testCase) bool { return strings.Contains(c.String(), part) }

// logsOfFailure shows what the processes of a failed case said.
func (w *world) logsOfFailure(t *testing.T) {
	if t.Failed() {
		w.broken = true
		w.t = t
		w.showLogs()
	}
}
