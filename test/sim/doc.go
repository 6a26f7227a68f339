// Package sim runs whole clusters in virtual time: nodes with the real
// hashicorp/raft, its real store, the real driver, participants with the real
// key-value store, and clients, all in one testing/synctest bubble, with gRPC
// over a network of its own whose links delay, cut and lose, and disks that are
// slow, fail, fill up, or lose what was not synced.
//
// An hour passes in moments, so the timers of the product are those of
// production. Goroutines are ordered by Go's scheduler, and Raft draws its time-outs
// from a source that cannot be seeded: a seed repeats the faults and the load,
// not every interleaving. What must be repeatable bit by bit is in test/model.
//
//	go test ./test/sim                        a few fresh seeds
//	go test ./test/sim -seed 7 -minutes 10    this seed, ten virtual minutes of faults
//	make sim SEEDS=100                        fresh seeds, ten virtual minutes each
package sim
