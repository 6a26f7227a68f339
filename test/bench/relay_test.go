package main

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// echoes serves connections that send back what they get.
func echoes(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// echo sends one byte and waits for it, at most for d.
func echo(t *testing.T, c net.Conn, d time.Duration) error {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func TestRelayCutLosesNothingAndHealGoesOn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("cutting needs a socket filter of Linux")
	}
	r, err := newRelay(echoes(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	c, err := net.Dial("tcp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := echo(t, c, 10*time.Second); err != nil {
		t.Fatalf("before the cut: %v", err)
	}
	if err := r.cut(); err != nil {
		t.Fatal(err)
	}
	if err := echo(t, c, 300*time.Millisecond); err == nil {
		t.Fatal("an answer came through the cut")
	}
	if late, err := net.DialTimeout("tcp", r.address(), 300*time.Millisecond); err == nil {
		_ = late.Close()
		t.Fatal("a connection was made through the cut")
	}
	if err := r.heal(); err != nil {
		t.Fatal(err)
	}
	// The byte that was sent during the cut arrives, too, so this one is never the first to come back.
	if err := echo(t, c, 10*time.Second); err != nil {
		t.Fatalf("after healing: %v", err)
	}
}
