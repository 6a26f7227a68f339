package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// page writes the page about performance, and its plots into a folder beside it.
func (s *summary) page(path string) error {
	dir := strings.TrimSuffix(path, filepath.Ext(path))
	plots, err := s.plot(dir)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString(s.preface())
	b.WriteString("\n## What must hold\n\n")
	b.WriteString(pageDemands)
	b.WriteString(s.demandTable())
	b.WriteString("\n## Closed loop\n\n")
	b.WriteString(pageClosed)
	b.WriteString(s.closedTable())
	if len(s.Logs) > 0 {
		b.WriteString("\n## Bytes of log\n\n")
		b.WriteString(pageLogs)
		b.WriteString(s.logTable())
	}
	b.WriteString("\n## Open loop\n\n")
	b.WriteString(pageOpen)
	b.WriteString(s.openTable())
	if len(s.Kills) > 0 {
		b.WriteString("\n## Failover\n\n")
		b.WriteString(pageKills)
		b.WriteString(s.killTable())
	}
	b.WriteString(s.voids())
	b.WriteString("\n## Plots\n")
	for _, p := range plots {
		fmt.Fprintf(&b, "\n![%s](%s/%s)\n", p.title, filepath.Base(dir), p.file)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

const pageHead = "# Performance\n\n" + `Made by ` + "`make bench`" + `, which measures everything in one run; nothing on this page is
written by hand. Absolute figures are this machine's. What says something elsewhere
are ratios of one run, so the bars are ratios, each made within a round.

What is measured, as processes on loopback that sync every write:

- **concordat**: three nodes, default settings, transactions of two branches of 64 bytes
  over participants that do nothing and keep nothing, submitted to the leader and
  answered at the decision; **concordat-follower** the same, submitted to a follower; **concordat-wal** with ` + "`--log-store wal`" + `;
  **concordat-kv** over two KV participants, no key wanted twice at a time;
  **concordat-kv-own** 4 callers with a key each, **concordat-kv-hot** 64 callers that want
  those 4 keys; **concordat-postgres** over two databases of one PostgreSQL.
- **floor**: two-phase commit over bare hashicorp/raft with no features
  (` + "`test/bench/floor`" + `): three log entries a transaction, at most 256 commands an entry,
  unary calls. **raft**: one command through the same nodes, store and batches.
  **echo**: a unary gRPC call.
- **etcd**: Debian's, three members, puts of 128 bytes to the leader.
- **postgres-by-hand**: a loop that prepares in both databases at once and then commits
  in both, each in one round trip, without a coordinator: nobody finishes what it leaves behind.

The load comes from one process on the same machine, over one connection for 64
callers, four at most.

`

const pageDemands = `The floor has to be as fast as the log allows, or the run does not count: the first two
lines.

`

const pageClosed = `Each caller sends when it was answered. A second counts what is over: what was answered,
less what is left unfinished. CPU is user and system time of the processes, beside the
nodes: participants and databases. Disk bytes are those that the nodes caused to be written,
a transaction and node.

`

const pageKills = `The leader is killed with kill -9 while operations are due at a steady rate; both systems in
their default settings, in turn. Measured is until something is answered that was due after the kill. Then the same with callers
that wait for their answers at the kill and send no more, until all of theirs is over.

`

const pageLogs = `Data of the entries of the leader's log, read from its file when it had ended.

`

const pageOpen = `Requests are due at a rate, whether or not those before were answered, and latency counts
from when each was due, so that a stall is seen by all that it delays.

`
