//go:build !linux

package main

import (
	"errors"
	"syscall"
)

// deafen needs a socket filter of Linux.
func deafen(syscall.Conn, bool) error { return errors.ErrUnsupported }
