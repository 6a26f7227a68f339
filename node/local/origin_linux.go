package local

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
)

// canCut: here it can be told which child a connection comes from.
const canCut = true

// originPID finds the process among pids that has the other end of an accepted
// IPv4 connection on this machine, 0 if none has: the kernel's table of sockets
// gives the inode, the processes' descriptors its owner.
func originPID(c net.Conn, pids []int) int {
	inode := socketInode(c)
	if inode == "" {
		return 0
	}
	socket := "socket:[" + inode + "]"
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, e := range entries {
			if link, err := os.Readlink(dir + "/" + e.Name()); err == nil && link == socket {
				return pid
			}
		}
	}
	return 0
}

// socketInode looks up the socket at the other end of an accepted connection,
// by both addresses: one alone may belong to other connections as well.
func socketInode(c net.Conn) string {
	local, remote := kernelAddress(c.RemoteAddr()), kernelAddress(c.LocalAddr())
	if local == "" || remote == "" {
		return ""
	}
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[1] == local && fields[2] == remote {
			return fields[9]
		}
	}
	return ""
}

// kernelAddress is an IPv4 address as the kernel prints it, as one number in
// the machine's byte order; empty if it is none.
func kernelAddress(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp.IP.To4() == nil {
		return ""
	}
	ip := tcp.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], tcp.Port)
}
