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
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok || remote.IP.To4() == nil {
		return 0
	}
	inode := socketInode(remote)
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

// socketInode looks up the socket whose local address is a.
func socketInode(a *net.TCPAddr) string {
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer file.Close()
	ip := a.IP.To4()
	// The kernel prints the address as one number in the machine's byte order.
	local := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[1] == local {
			return fields[9]
		}
	}
	return ""
}
