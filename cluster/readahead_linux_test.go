package cluster

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// After the machine's restart the log is in the cache before it is read page by
// page (test/chaos: 18 s until there was a leader after all machines lost power).
func TestLogIsReadAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	const size = 8 << 20
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	before := cached(t, f, size)
	readAhead(path)
	if after := cached(t, f, size); after != size {
		t.Errorf("%d of %d bytes are in the cache, before it were %d", after, size, before)
	}
}

// cached is how many bytes of a file are in the system's cache.
func cached(t *testing.T, f *os.File, size int) int {
	t.Helper()
	mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mapped) }()
	page := os.Getpagesize()
	pages := make([]byte, size/page)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[0])), uintptr(size), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	n := 0
	for _, p := range pages {
		n += int(p&1) * page
	}
	return n
}
