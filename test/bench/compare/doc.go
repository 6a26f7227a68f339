// Command compare measures the coordinator beside what it is to be compared
// with, on one machine in one run, and prints a table of ratios with their bars.
//
//	go build -o concordat . && go run ./test/bench/compare -binary ./concordat
//
// What is measured: Concordat with participants that do nothing (submitted to the
// leader, and to a follower), with KV participants and with PostgreSQL; the floor
// (test/bench/floor), raft Apply behind gRPC and a gRPC call that does nothing;
// etcd; and two-phase commit over PostgreSQL by hand. All of it is real processes
// on loopback that sync every write. The load comes from this process.
//
// A round starts everything anew and measures each number of callers with each
// system in turn, so that what the machine does meanwhile hits all alike; ratios
// are made within a round, and the table has medians over rounds. In a closed
// loop each caller sends when it was answered; in an open one requests are due at
// a rate, and latency counts from when they were due. A second counts
// transactions that are over: what was answered, less what is left unfinished.
package main
