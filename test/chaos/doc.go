// Package chaos hurts a real cluster in every way it can and proves that
// nothing comes of it: three nodes and three KV participants as processes, each
// with a network namespace and an ext4 disk of its own, client processes that
// load them, and a seeded schedule of faults.
//
//	go test ./test/chaos                                  once each of the cheap kinds
//	make chaos DURATION=3m                                every kind, again and again
//	go test ./test/chaos -run Chaos -seed 42 -kinds kill-leader,power-node -duration 30s -v
//
// The kinds of faults (List), by the class of means that they need:
//
//	signals      kill-leader kill-follower kill-participant kill-client kill-all
//	             pause-leader pause-follower pause-participant
//	             restart-leader restart-participant transfer
//	network      cut-leader cut-participant
//	packet rules cut-leader-in cut-leader-out cut-follower cut-participant-in
//	             cut-participant-out cut-participant-from-leader
//	             reset-node reset-participant
//	slow network slow-node slow-participant
//	disk         full-node full-participant power-node power-participant power-all
//	trace        sync-error-node sync-error-participant sync-kill-node sync-kill-participant
//
// Some strike together, one a node and the other a participant.
//
// A program with a seeded bug is given as -binary; its nodes and participants
// have the environment of the test.
//
// A class that cannot run here fails the test, unless a line "class: reason" of
// .ci/optional excuses it.
//
// A fault counts only if a transaction was open when it struck and its effect
// was seen: a dead process, a dropped packet, an injected error, a file that was
// not synced and is gone. After the last one everything must be settled within
// 5 s, and then: all nodes have the same state at the same index; no lock, no
// branch in doubt; no descriptor and no goroutine too many; the histories are
// strictly serializable (package history), all outcomes being known by then,
// and what the nodes say of each id is what its client was told; the money is
// all there; at least 70 % of the transactions committed (one that lost to an
// older one and was tried again counts once); nothing ended that nobody struck.
// A checker that does not come to an end is a failure.
//
// TestLyingDisksAreNoticed is the control: it skips the syncs of a participant,
// then of all nodes, and cuts their power, which must lose data, and fails if
// the checks do not say so.
//
// The schedule is a function of the seed. What the processes do meanwhile is
// not: the same seed strikes the same way, and may find another thing.
package chaos
