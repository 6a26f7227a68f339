package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	// probeCallers and probeWindow are of the load whose entries are read: brief
	// enough that no snapshot takes them away before.
	probeCallers = 64
	probeWindow  = 500 * time.Millisecond
)

// journal is a leader's log, which can be read when the leader has ended.
type journal struct {
	file func() string
	// applied is the index of the leader's last entry.
	applied func(context.Context) (uint64, error)
	// carried is what a transaction has to log at least: its id, the names of its
	// participants and its payloads, once.
	carried int
}

// logFigure is what the log held of a load's transactions.
type logFigure struct {
	System       string  `json:"system"`
	Round        int     `json:"round"`
	Transactions int     `json:"transactions"`
	Entries      float64 `json:"entries"`
	Bytes        float64 `json:"bytes"`
	Carried      int     `json:"carried_bytes"`
}

// probe is a load whose entries are to be read.
type probe struct {
	subject      *subject
	first, last  uint64
	transactions int
	file         string // of who led
}

// probe runs a brief load and notes which entries are its own.
func (s *subject) probe(ctx context.Context, o options) (p probe, err error) {
	if err := s.aim(ctx); err != nil {
		return p, err
	}
	p.subject, p.file = s, s.journal.file()
	if p.first, err = s.journal.applied(ctx); err != nil {
		return p, err
	}
	d := closed(ctx, s, probeCallers)
	pause(ctx, min(probeWindow, o.window))
	d.stop()
	if err := errors.Join(d.err, d.over(ctx)); err != nil {
		return p, fmt.Errorf("%s: the log: %w", s.name, err)
	}
	p.transactions = len(d.samples)
	p.last, err = s.journal.applied(ctx)
	return p, err
}

// read is the figure of a probe, from a file that nobody has open.
func (p probe) read(round int) (f logFigure, err error) {
	j := p.subject.journal
	f = logFigure{System: p.subject.name, Round: round, Transactions: p.transactions, Carried: j.carried}
	if _, err := os.Stat(p.file); err != nil {
		return f, err
	}
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: p.file, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: time.Second}, MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	entries, bytes := 0, 0
	for i := p.first + 1; i <= p.last; i++ {
		var l raft.Log
		if err := store.GetLog(i, &l); err != nil {
			return f, fmt.Errorf("%s: entry %d: %w", p.file, i, err)
		}
		if l.Type == raft.LogCommand {
			entries, bytes = entries+1, bytes+len(l.Data)
		}
	}
	if p.transactions > 0 {
		f.Entries, f.Bytes = float64(entries)/float64(p.transactions), float64(bytes)/float64(p.transactions)
	}
	return f, nil
}

// beyond is how many bytes a transaction of a system logs that it does not carry.
func (s *summary) beyond(system string) spread {
	var values []float64
	for _, f := range s.Logs {
		if f.System == system && f.Transactions > 0 {
			values = append(values, f.Bytes-float64(f.Carried))
		}
	}
	return spreadOf(values)
}

func (s *summary) logTable() string {
	var b strings.Builder
	b.WriteString("| system | round | transactions | entries a transaction | bytes a transaction | of these id, names and payloads |\n|---|---:|---:|---:|---:|---:|\n")
	for _, f := range s.Logs {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %d |\n", f.System, f.Round, number(float64(f.Transactions)), number(f.Entries), number(f.Bytes), f.Carried)
	}
	return b.String()
}
