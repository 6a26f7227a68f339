package cluster

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// TestLogCacheAgainstTheStore: with and without the cache every read is the same.
func TestLogCacheAgainstTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := raft.NewInmemStore()
		cache := newLogCache(store, rapid.IntRange(1, 8).Draw(t, "entries"), rapid.IntRange(1, 40).Draw(t, "bytes"))
		next, term := uint64(1), uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var logs []*raft.Log
				for range rapid.IntRange(1, 6).Draw(t, "n") {
					logs = append(logs, &raft.Log{Index: next, Term: term, Data: make([]byte, rapid.IntRange(0, 20).Draw(t, "size"))})
					next++
				}
				if err := cache.StoreLogs(logs); err != nil {
					t.Fatal(err)
				}
			},
			"cut the suffix": func(t *rapid.T) {
				from := rapid.Uint64Range(1, next).Draw(t, "from")
				if from < next {
					if err := cache.DeleteRange(from, next-1); err != nil {
						t.Fatal(err)
					}
				}
				next = from
				term++
			},
			"compact": func(t *rapid.T) {
				if to := rapid.Uint64Range(0, next-1).Draw(t, "to"); to > 0 {
					if err := cache.DeleteRange(1, to); err != nil {
						t.Fatal(err)
					}
				}
			},
			"skip": func(*rapid.T) { next += 3 }, // as behind an installed snapshot
			"": func(t *rapid.T) {
				kept := 0
				for _, l := range cache.ring {
					if l != nil {
						kept += len(l.Data)
					}
				}
				if kept > cache.maxBytes || kept != cache.bytes {
					t.Fatalf("%d bytes kept, %d counted, at most %d", kept, cache.bytes, cache.maxBytes)
				}
				for i := range next + 2 {
					var got, want raft.Log
					gotErr, wantErr := cache.GetLog(i, &got), store.GetLog(i, &want)
					if !errors.Is(gotErr, wantErr) || got.Term != want.Term || got.Index != want.Index {
						t.Fatalf("entry %d: %+v %v, should be %+v %v", i, got, gotErr, want, wantErr)
					}
				}
			},
		})
	})
}
