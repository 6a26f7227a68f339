// Package cluster is the replicas: everything about hashicorp/raft. It keeps
// the log and the snapshots, carries Raft's traffic, bootstraps, batches
// proposals, follows leadership and guards the fsm.Machine that the log drives.
//
// The way of a command: Propose queues it, the proposer packs what waits into
// one log entry while the entry before is under way, Raft commits it, the
// machine applies it, and every caller gets the Result of its own command.
//
// Defects of hashicorp/raft v1.7.3 that this package stays out of, each with a
// test that would notice its return:
//
//   - raft#695, heartbeats handled beside the main loop can make replicas
//     diverge: the transport ignores SetHeartbeatHandler.
//   - pipelined replication can stall a follower for good: one RPC in flight.
//   - raft#697, an install of a snapshot can repeat for ever: few entries are
//     ever in flight, and far more are kept behind a snapshot.
//   - raft#696, a leadership transfer can leave a leader that refuses every
//     proposal: a transfer is for a process that is about to end; where an
//     operator asks for one, the process ends if that comes to pass.
//   - an installed snapshot leaves older entries in a log that may have gaps,
//     also those that no majority ever had, and a leader would send them to a
//     follower that is far behind: the log says that it has no gaps
//     (MonotonicLogStore), so Raft deletes it, and what a crash leaves of it is
//     dropped at the start.
//   - raft#498, futures know no deadline: nobody waits for one without a way out.
//   - VerifyLeader counts answers to questions from before the call: the
//     transport notes when each question was asked, and only later ones count.
//   - a follower that returns is sent nothing for up to ten seconds: the
//     transport sends entries again without Raft's growing pauses.
//
// A failed write is final (P15): the first error of the log store, of a
// snapshot file, or of the machine ends the process through Config.Fatal.
//
// Threads: the Machine is written by Raft's own goroutine under a lock and
// read through View. Every goroutine of a Replica is joined by Close.
package cluster
