package cluster

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeOut has n bytes of a file from offset on written to the disk, and waits for
// them. It makes nothing durable, which Sync does at the end; but then, and
// whenever the log is synced meanwhile, little is left that the file system has to
// write first. What goes wrong here, Sync tells.
func writeOut(f *os.File, offset, n int64) {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, all)
}
