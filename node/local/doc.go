// Package local runs a cluster and its participants as child processes on
// loopback: real processes, sockets and disks, no root. The demo and the
// whole-system tests and benchmarks share it. It can kill, stop and restart
// each process; it only ever signals processes that it started.
package local
