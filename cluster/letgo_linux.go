package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// letGo has the system take the pages of a mapped file out of the process's
// memory. bbolt looks at each page of raft.db when it opens it; of a long log few
// are needed again. They stay in the system's cache, and come back when they are
// read. What goes wrong here costs memory, and nothing else.
func letGo(path string) {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return
	}
	if file, err = filepath.Abs(file); err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		// 7f1c00000000-7f1c08000000 r--s 00000000 fe:00 1234   /var/lib/concordat/raft.db
		var from, to uintptr
		if !strings.HasSuffix(line, " "+file+"\n") {
			continue
		}
		if n, err := fmt.Sscanf(line, "%x-%x r--s", &from, &to); n == 2 && err == nil {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}
