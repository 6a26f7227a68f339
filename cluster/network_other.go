//go:build !linux

package cluster

import (
	"net"
	"time"
)

// setUserTimeout exists on Linux only; elsewhere the RPC timeout and keepalive
// have to do.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
