// Command concordat is the coordinator, its participants and its tools.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/concordat-tx/concordat/node/cli"
	"github.com/concordat-tx/concordat/node/local"
)

func main() {
	local.ExitWithParent()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
