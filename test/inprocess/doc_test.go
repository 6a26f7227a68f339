// Package inprocess runs whole clusters in one process: real Raft, real disks,
// real sockets, nothing simulated. It is quick enough for every change; what
// needs kill -9 or SIGSTOP is in test/e2e.
//
// A world is a cluster with its participants and a client. Raft's links can be
// cut between any two nodes (raftNet), and with options.proxied every gRPC
// connection runs through a proxy that can swallow, hold, refuse or delay what
// passes. A participant's work goes through hooks, and what it was told is
// recorded, so that a test can stop the protocol at any step and replay any
// message later.
//
// Tests that draw at random print their seed and the command that repeats them.
// Soaks run briefly by default; -soak says how long.
package inprocess
