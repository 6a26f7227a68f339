// Command bench measures what the coordinator must hold in time, space and
// rate, and prints each figure beside its bar; the exit status is 1 if one is
// missed. Every figure comes from real processes on loopback (three nodes and
// KV participants, each with its own files, every write synced, default
// settings) as node/local runs them.
//
//	go build -o concordat . && go run ./test/bench -binary ./concordat
//
// Experiments, one a file: throughput, failover, restart, dead, overload,
// retention, growth, heal; and those of docs/scale.md, over participants that do
// nothing: branches, payload, kept, flight, and soak, over KV. -only names some of
// them, -short makes each brief, which shows that it works and not what it measures.
package main
