package main

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// deafen makes a socket drop every packet that arrives at it, or hear again.
// The filter is asked before TCP looks at a packet, so nothing is acknowledged.
func deafen(socket syscall.Conn, yes bool) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if !yes {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
			if errors.Is(failed, unix.ENOENT) {
				failed = nil // it heard already
			}
			return
		}
		none := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0} // take 0 bytes of every packet
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none})
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("filter a socket: %w", err)
	}
	return nil
}
