//go:build !linux

package database

import "syscall"

func dieWithUs(*syscall.SysProcAttr) {}
