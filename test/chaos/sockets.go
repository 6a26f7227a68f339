//go:build linux

package chaos

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The states of /proc/net/tcp that matter here.
const (
	tcpListens   = "0A"
	tcpCloseWait = "08" // the other end has closed it and this one has not
)

// held describes what a process's descriptors are, the connections by their other
// ends: for a report of a leak.
func (s *Stage) held(child string) string {
	dir := fmt.Sprintf("/proc/%d/", s.process(child).PID())
	counts := map[string]int{}
	sockets, err := tcpSockets(dir + "net/tcp")
	if err != nil {
		return err.Error()
	}
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		return err.Error()
	}
	for _, fd := range fds {
		link, err := os.Readlink(dir + "fd/" + fd.Name())
		if err != nil {
			continue // closed meanwhile
		}
		inode, isSocket := strings.CutPrefix(link, "socket:[")
		switch what, isTCP := sockets[strings.TrimSuffix(inode, "]")]; {
		case isSocket && isTCP:
			counts[what]++
		case isSocket:
			counts["other sockets"]++
		case strings.HasPrefix(link, "/"):
			counts["files"]++
		default:
			counts["others"]++
		}
	}
	var list []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(list, ", ")
}

// tcpSockets are what the sockets of a network namespace are for, by inode.
func tcpSockets(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	listens := map[uint16]bool{}
	for line := range strings.Lines(string(text)) {
		row := strings.Fields(line)
		if len(row) < 10 || row[1] == "local_address" {
			continue
		}
		rows = append(rows, row)
		if row[3] == tcpListens {
			listens[tcpEnd(row[1]).Port()] = true
		}
	}
	sockets := map[string]string{}
	for _, row := range rows {
		local, remote := tcpEnd(row[1]), tcpEnd(row[2])
		what := fmt.Sprintf("to %s", remote)
		switch {
		case row[3] == tcpListens:
			what = "listeners"
		case listens[local.Port()]:
			what = fmt.Sprintf("from %s at %d", remote.Addr(), local.Port())
		}
		if row[3] == tcpCloseWait {
			what += " (closed there)"
		}
		sockets[row[9]] = what
	}
	return sockets, nil
}

// tcpEnd reads an address as /proc/net/tcp has it: four bytes of a little-endian
// machine, and the port.
func tcpEnd(text string) netip.AddrPort {
	address, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(address)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b) != 4 {
		return netip.AddrPort{}
	}
	slices.Reverse(b)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), uint16(n))
}
