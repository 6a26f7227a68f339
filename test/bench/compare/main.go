package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/test/bench/floor"
	"github.com/concordat-tx/concordat/test/bench/noop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if role, args := asked(os.Args); role != "" {
		os.Exit(status(play(ctx, role, args)))
	}
	os.Exit(status(run(ctx, os.Args[1:])))
}

// status is the exit status after err, which it tells.
func status(err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "compare:", err)
	return 1
}

// asked is the role that a command line asks for: this program is also the
// servers that it measures. Empty: none.
func asked(line []string) (role string, args []string) {
	if len(line) > 1 {
		switch line[1] {
		case floor.RoleNode, floor.RoleParticipant, floor.RoleEcho, noop.Role:
			return line[1], line[2:]
		}
	}
	return "", nil
}

// play is one of the servers, until it is ended.
func play(ctx context.Context, role string, args []string) error {
	local.ExitWithParent()
	if role == noop.Role {
		return noop.Run(ctx, args)
	}
	return floor.Run(ctx, role, args)
}

// run measures, or reads what was measured, and writes what it is asked for.
func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	var r *result
	if o.from != "" {
		r, err = readResult(o.from)
	} else {
		r, err = measureAll(ctx, o)
	}
	if r != nil { // what there is, even if it is not all; the page is of a whole run
		if err != nil {
			o.docs, o.plots = "", ""
		}
		err = errors.Join(err, r.publish(o))
	}
	return err
}
