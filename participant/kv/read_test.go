package kv

import (
	"bytes"
	"context"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/participant/durable"
)

// running reports whether a goroutine is inside a function.
func running(function string) bool {
	stacks := make([]byte, 1<<20)
	return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte(function))
}

// TestReadGivesUpWhileTheMapGrows: a read whose time ends is served at that
// moment. Its snapshot keeps bbolt's map from growing, and the next read, whose
// snapshot waits for that, keeps the lock table's mutex.
func TestReadGivesUpWhileTheMapGrows(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "small.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	first, giveUp := context.WithCancel(t.Context())
	grown := make(chan error, 1)
	snapshots := 0
	table := newLockTable(func() (*durable.Point, error) { // the mutex is held
		switch snapshots++; snapshots {
		case 1:
			giveUp()
			eventually(t, "the first gives up", func() bool { return running("abandonRead") })
		case 2:
			go func() {
				grown <- db.Update(func(tx *bbolt.Tx) error {
					b, err := tx.CreateBucket([]byte("b"))
					if err != nil {
						return err
					}
					return b.Put([]byte("k"), []byte(strings.Repeat("v", 1<<20)))
				})
			}()
			// It waits for the first, or need not any more.
			eventually(t, "the map grows", func() bool { return running("bbolt.(*DB).mmap(") || len(grown) == 1 })
		}
		tx, err := db.Begin(false)
		return &durable.Point{Tx: tx}, err
	})
	b := &lockBench{T: t, table: table}
	writer := b.owner("writer", 1)
	b.granted(b.ask(writer, "k", exclusive))
	served := make(chan error, 2)
	for i, ctx := range []context.Context{first, soon(t)} {
		go func() {
			tx, err := table.snapshot(ctx, []string{"k"})
			if err == nil {
				err = tx.Rollback()
			}
			served <- err
		}()
		eventually(t, "the read waits", func() bool {
			table.mu.Lock()
			defer table.mu.Unlock()
			return len(table.keys["k"].reads) == i+1
		})
	}
	released := make(chan struct{})
	go func() { defer close(released); table.release(writer) }()
	select {
	case <-released:
	case <-time.After(20 * time.Second):
		t.Fatal("deadlock: the lock table waits for the map, the map for a snapshot, and who has it for the lock table")
	}
	for range 2 {
		if err := <-served; err != nil {
			t.Errorf("read: %v", err)
		}
	}
	if err := <-grown; err != nil || snapshots != 2 {
		t.Errorf("growth: %v; %d snapshots", err, snapshots)
	}
	b.empty()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// TestReadGivesUpWhenItsTurnComes: the last writer leaves while a read that has
// given up waits for the mutex. It can name nobody, and is served.
func TestReadGivesUpWhenItsTurnComes(t *testing.T) {
	b := newLockBench(t)
	second, giveUp := context.WithCancel(t.Context())
	b.table.begin = func() (*durable.Point, error) { // the mutex is held
		if b.snapshots++; b.snapshots == 1 {
			giveUp()
			next := b.table.keys["k"].reads[0]
			eventually(t, "the next has given up", next.taken.Load)
		}
		return nil, nil
	}
	writer := b.owner("writer", 1)
	b.granted(b.ask(writer, "k", exclusive))
	first := b.read("k")
	served := make(chan error, 1)
	go func() { _, err := b.table.snapshot(second, []string{"k"}); served <- err }()
	eventually(t, "the read waits", func() bool {
		b.table.mu.Lock()
		defer b.table.mu.Unlock()
		return len(b.table.keys["k"].reads) == 2
	})
	b.table.release(writer)
	b.granted(first)
	b.granted(served)
	if b.snapshots != 2 {
		t.Errorf("%d snapshots", b.snapshots)
	}
	b.empty()
}
