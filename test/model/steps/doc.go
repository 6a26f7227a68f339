// Package steps runs the protocol's real code as pure steppers under a seeded,
// single-threaded scheduler: fsm.Machine, drive.Driver with the rest of what a
// leader does that is pure, participant.Entry with the rules around it, and
// the lock table of the embedded KV. One seed is one run, to the bit: there is
// no goroutine, no clock and no map order in the loop, and all chance comes
// from one generator.
//
// What is not the product's own code here is modelled, since it is made of
// goroutines, files or sockets:
//
//	raft.go     a log by its promise: one order, a change of leader keeps any
//	            prefix of what is not committed, deposed leaders live on
//	lead.go, flight.go, submit.go, outcomes.go   what node does around the driver
//	party.go, disk.go, prepare.go, settle.go     what participant.Server and kv.Store do around the rules
//	inquire.go  the inquiry and forget loops of participant.Server
//	wire.go     a network that loses, doubles, delays and reorders, and is cut
//	client.go, operator.go, fault.go             those who use it, and what goes wrong
//
// truth (truth.go, branches.go, told.go) watches all of it and knows what
// really happened: it checks every step, and check.go what is there at the
// end. A run has a phase with faults and one without, in which everything must
// settle.
//
// A Bug (bug.go, sabotage.go) breaks one rule in the modelled shell, to show
// that the checks find it. Replay (replay.go, move.go, deliver.go) runs a
// schedule from outside, as a model checker writes it, instead of the
// generator's; modelmoves.go reads that of the Promela model of attempts.
//
//	go test ./test/model/steps -v -run TestSeeds            fresh seeds, and what they saw
//	go test ./test/model/steps -v -run TestSeeds -seed=7 -profile=2 -steps=60000 [-trace]
//	go test ./test/model/steps -run xxx -bench . -benchtime 1000000x
package steps
