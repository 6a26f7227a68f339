package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// binary is the program that is measured, built once.
var binary string

func TestMain(m *testing.M) {
	if role, args := asked(os.Args); role != "" { // this program is also the servers
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(status(play(ctx, role, args)))
	}
	flag.Parse()
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "concordat-compare-test-")
	if err != nil {
		return status(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "concordat")
	if out, err := exec.Command("go", "build", "-o", binary, "../../..").CombinedOutput(); err != nil {
		return status(fmt.Errorf("build: %w\n%s", err, out))
	}
	return m.Run()
}

// testSite is a place to build on, for one test.
func testSite(t *testing.T) *site {
	t.Helper()
	s, err := newSite(options{binary: binary}, t.TempDir(), "site")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
