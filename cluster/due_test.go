package cluster

import (
	"fmt"
	"testing"
)

// Nodes that are started together and apply the same log take their snapshots one
// after the other, but for the first, whatever an entry carries; and all take them.
func TestSnapshotsAreTakenInTurn(t *testing.T) {
	const ticks, entriesATick = 600, 512
	type node struct {
		*turns
		newest, commands uint64
		taken            []int
	}
	for _, began := range []uint64{0, 40_000} { // commands that a start has to apply
		for _, each := range []uint64{1, 10, 27, 35, 40, 53, 72, 100, 400} { // commands an entry
			t.Run(fmt.Sprintf("%d commands an entry, %d at first", each, began*each), func(t *testing.T) {
				cfg := DefaultConfig()
				cfg.Peers = []Peer{{ID: "n1"}, {ID: "n2"}, {ID: "n3"}}
				var nodes []*node
				for _, p := range cfg.Peers {
					cfg.NodeID = p.ID
					nodes = append(nodes, &node{turns: newTurns(cfg, 0), commands: began * each})
				}
				for tick := 1; tick <= ticks; tick++ {
					applied := began + uint64(tick*entriesATick)
					for _, n := range nodes {
						n.commands += entriesATick * each
						if n.comes(n.newest, applied, n.commands, 200_000) {
							n.newest, n.commands, n.taken = applied, 0, append(n.taken, tick)
						}
					}
				}
				every := (int(cfg.SnapshotCommands) + entriesATick*int(each) - 1) / (entriesATick * int(each))
				for i, n := range nodes {
					if len(n.taken) < max(1, ticks/every) {
						t.Errorf("node %d took one %d times, every %d ticks it is due", i+1, len(n.taken), every)
					}
					for k, o := range nodes[i+1:] {
						for _, a := range n.taken[1:] {
							for _, b := range o.taken[1:] {
								if max(a-b, b-a) < max(1, every/4) {
									t.Errorf("nodes %d and %d take one at %d and %d", i+1, i+2+k, a, b)
								}
							}
						}
					}
				}
			})
		}
	}
}
