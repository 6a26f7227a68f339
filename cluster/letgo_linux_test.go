package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// The pages of a long log that were looked at when it was opened are not kept in
// the process's memory, and can be read.
func TestOpenedLogIsLetGo(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	const path = "raft.db" // as an operator may name it
	store, err := openStore(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	const entries, bytes = 64, 256 << 10
	var logs []*raft.Log
	for i := range entries {
		logs = append(logs, &raft.Log{Index: uint64(i + 1), Term: 1, Type: raft.LogNoop, Data: make([]byte, bytes)})
	}
	if err := store.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if store, err = openStore(path, 0); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if kb := mappedKB(t, filepath.Join(dir, path)); kb > 64 {
		t.Errorf("%d KiB of the log are in memory once it is open", kb)
	}
	var log raft.Log
	for i := range entries {
		if err := store.GetLog(uint64(i+1), &log); err != nil || len(log.Data) != bytes {
			t.Fatalf("entry %d: %d bytes, %v", i+1, len(log.Data), err)
		}
	}
	if kb := mappedKB(t, filepath.Join(dir, path)); kb < entries*bytes>>10 {
		t.Errorf("%d KiB are in memory once all of it has been read: this test looks at the wrong thing", kb)
	}
}

// mappedKB is how much of a mapped file is in the process's memory.
func mappedKB(t *testing.T, path string) (kb int) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside, found := false, false
	for line := range strings.Lines(string(smaps)) {
		if fields := strings.Fields(line); strings.Contains(fields[0], "-") {
			inside = strings.HasSuffix(line, " "+path+"\n")
			found = found || inside
		}
		var n int
		if inside && strings.HasPrefix(line, "Rss:") {
			if _, err := fmt.Sscanf(line, "Rss: %d kB", &n); err != nil {
				t.Fatal(err)
			}
			kb += n
		}
	}
	if !found {
		t.Fatal("the file is not mapped")
	}
	return kb
}
