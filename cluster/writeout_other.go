//go:build !linux

package cluster

import "os"

// writeOut leaves it to the system when it writes.
func writeOut(*os.File, int64, int64) {}
