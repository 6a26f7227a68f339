package database

import "syscall"

// dieWithUs has the kernel kill a child when this process ends, however it does.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
