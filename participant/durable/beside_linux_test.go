package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCheckpointSyncsByItself: where the disk fails what a batch wrote, Linux tells one
// sync of each descriptor. A checkpoint that syncs that of the batches would be told in
// their place, and a batch that is lost would be answered.
func TestCheckpointSyncsByItself(t *testing.T) {
	var logs []*os.File
	failed := make(chan error, 1)
	path := filepath.Join(t.TempDir(), "file.db")
	s, err := Open(path, Options{
		Kind: "test", CheckRecord: func(string, []byte) error { return nil }, LogBytes: 4 * logHeader,
		Fatal: func(err error) { failed <- err },
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			file, err := os.OpenFile(name, flag, mode)
			if name == logPath(path) {
				logs = append(logs, file)
			}
			return file, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	put(t, s, "a=1")
	if len(logs) != 2 {
		t.Fatalf("the log was opened %d times", len(logs))
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	// The second fails from now on; batches do not notice.
	if err := syscall.Dup3(int(full.Fd()), int(logs[1].Fd()), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 2*logHeader)
	put(t, s, "b="+large)
	put(t, s, "c="+large)
	if err := <-failed; !errors.Is(err, syscall.ENOSPC) || !IsFatal(err) {
		t.Errorf("failed with %v", err)
	}
	pages, log := crashed(t, path)
	r, err := reopen(t, pages, log)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, r), "a=1 b="+large+" c="+large; got != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	closed(t, r)
}
