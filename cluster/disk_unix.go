//go:build linux || darwin

package cluster

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func diskSpace(dir string) (DiskSpace, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return DiskSpace{}, fmt.Errorf("free space of %s: %w", dir, err)
	}
	block := uint64(st.Bsize)
	return DiskSpace{Free: st.Bavail * block, Total: st.Blocks * block}, nil
}
