package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// A snapshot of several megabytes does not pile up for the end, and is what was
// written, whether it is finished or given up.
func TestSnapshotIsWrittenOut(t *testing.T) {
	fail := newFailure(hclog.NewNullLogger(), func(err error) { t.Error(err) })
	dog := newWatchdog(time.Minute, fail)
	defer dog.close()
	snaps, err := openSnapshots(t.TempDir(), dog, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	snaps.meters = newMeters()
	_, trans := raft.NewInmemTransport("")
	chunk := bytes.Repeat([]byte("snapshot"), 8<<10)
	const chunks = 3<<20/(64<<10) + 3
	for name, finish := range map[string]func(raft.SnapshotSink) error{"finished": raft.SnapshotSink.Close, "given up": raft.SnapshotSink.Cancel} {
		sink, err := snaps.Create(1, 7, 1, raft.Configuration{}, 1, trans)
		if err != nil {
			t.Fatal(err)
		}
		s := sink.(*guardedSink)
		for range chunks {
			if _, err := sink.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if s.out != 3<<20 || s.state == nil {
			t.Errorf("%s: %d of %d bytes are written out", name, s.out, s.written)
		}
		if err := finish(sink); err != nil {
			t.Fatal(err)
		}
		if s.state != nil {
			t.Errorf("%s: the file is still open", name)
		}
	}
	files, err := filepath.Glob(filepath.Join(snaps.dir, "*", "state.bin"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if got, err := os.ReadFile(files[0]); err != nil || !bytes.Equal(got, bytes.Repeat(chunk, chunks)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
