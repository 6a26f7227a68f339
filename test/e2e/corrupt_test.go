package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// marker is found in the files by its bytes.
const marker = "a-marker-that-stands-out"

// marked is a cluster that has committed a transaction with the marker in it.
func marked(t *testing.T, store cluster.LogStore) *world {
	w := newWorld(t, local.Config{Participants: []string{"seats"}, ServerArgs: []string{"--log-store", string(store)}})
	r, err := w.client.Submit(within(t, 20*time.Second), &pb.SubmitRequest{
		Id: "marked", Wait: pb.Wait_COMPLETED, Branches: []*pb.Branch{
			{Participant: "seats", Payload: []byte(`{"ops":[{"op":"put","key":"k","value":"` + marker + `"}]}`)},
		},
	})
	if err != nil || r.GetOutcome() != pb.Outcome_COMMIT {
		t.Fatalf("%v, %v", r, err)
	}
	return w
}

// onEveryStore runs a test on each log store, with the ending of the file that
// holds a short log.
func onEveryStore(t *testing.T, test func(t *testing.T, store cluster.LogStore, file string)) {
	t.Run("bolt", func(t *testing.T) { test(t, cluster.Bolt, "raft.db") })
	t.Run("wal", func(t *testing.T) { test(t, cluster.WAL, "-0000000000000000.wal") })
}

// dies starts a process that must end by itself, with status 1 and the words in its log.
func dies(t *testing.T, p *local.Process, words ...string) {
	t.Helper()
	before, err := os.ReadFile(p.Log)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, p.Name+" stops", func() bool { return !p.Running() })
	if err := p.Wait(); err == nil || err.Error() != "exit status 1" {
		t.Errorf("%s ended with %v, want exit status 1", p.Name, err)
	}
	after, err := os.ReadFile(p.Log)
	if err != nil {
		t.Fatal(err)
	}
	said := string(after[len(before):])
	for _, word := range words {
		if !strings.Contains(said, word) {
			t.Errorf("%s does not say %q:\n%s", p.Name, word, said)
		}
	}
}

// find returns the one file below dir with that ending.
func find(t *testing.T, dir, ending string) string {
	t.Helper()
	var found string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && strings.HasSuffix(path, ending) {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no %s below %s: %v", ending, dir, err)
	}
	return found
}

// flip changes one bit of every place where the marker stands.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for at := 0; ; n++ {
		i := bytes.Index(b[at:], []byte(marker))
		if i < 0 {
			break
		}
		b[at+i+3] ^= 0x10
		at += i + len(marker)
	}
	if n == 0 {
		t.Fatalf("%s does not hold the marker", path)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFlippedBitInACommandStopsTheNode(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store cluster.LogStore, file string) {
		w := marked(t, store)
		n := w.Nodes[0]
		w.kill(n.Process)
		flip(t, find(t, filepath.Join(filepath.Dir(n.Log), n.ID), file))
		dies(t, n.Process, file, "CRC-32C", "log entry")
	})
}

func TestTruncatedLogStopsTheNode(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store cluster.LogStore, file string) {
		w := marked(t, store)
		n := w.Nodes[1]
		w.kill(n.Process)
		path := find(t, filepath.Join(filepath.Dir(n.Log), n.ID), file)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int64{info.Size() / 2, 5000, 100, 0} {
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			dies(t, n.Process, file)
		}
	})
}

func TestFlippedBitInAParticipantsDataStopsIt(t *testing.T) {
	w := marked(t, cluster.Bolt)
	p := w.Participants["seats"]
	if err := p.Stop(10 * time.Second); err != nil { // which brings all to the pages
		t.Fatal(err)
	}
	flip(t, find(t, p.Data, ".db"))
	dies(t, p.Process, ".db", "checksum", "data", "key")
}

func TestFlippedBitInAParticipantsLogStopsIt(t *testing.T) {
	w := marked(t, cluster.Bolt)
	p := w.Participants["seats"]
	w.kill(p.Process)
	flip(t, find(t, p.Data, ".db.log"))
	dies(t, p.Process, ".db.log", "not as it was written")
}

func TestTruncatedParticipantFileStopsIt(t *testing.T) {
	w := marked(t, cluster.Bolt)
	p := w.Participants["seats"]
	w.kill(p.Process)
	path := find(t, p.Data, ".db")
	if err := os.Truncate(path, 9000); err != nil {
		t.Fatal(err)
	}
	dies(t, p.Process, path)
}
