package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestOriginOfASharedPort: one local port may have connections to several
// addresses, of several processes; the kernel hands ports out again by the
// pair. Each connection must be told from the others.
func TestOriginOfASharedPort(t *testing.T) {
	shared := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)},
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
			return errors.Join(e, err)
		},
	}
	accepts := map[string]net.Conn{} // by the inode of the other end
	for range 2 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		dialed, err := shared.DialContext(context.Background(), "tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer dialed.Close()
		shared.LocalAddr = dialed.LocalAddr()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		accepts[inodeOf(t, dialed)] = accepted
	}
	if len(accepts) != 2 {
		t.Fatalf("%d sockets", len(accepts))
	}
	for want, accepted := range accepts {
		if got := socketInode(accepted); got != want {
			t.Errorf("the other end of %s is socket %s, want %s", accepted.LocalAddr(), got, want)
		}
		if pid := originPID(accepted, []int{os.Getpid()}); pid != os.Getpid() {
			t.Errorf("the other end is of process %d, want %d", pid, os.Getpid())
		}
	}
}

// inodeOf is the inode of a connection of this process.
func inodeOf(t *testing.T, c net.Conn) (inode string) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		var st syscall.Stat_t
		if err := syscall.Fstat(int(fd), &st); err != nil {
			t.Error(err)
		}
		inode = fmt.Sprint(st.Ino)
	})
	if err != nil {
		t.Fatal(err)
	}
	return inode
}
