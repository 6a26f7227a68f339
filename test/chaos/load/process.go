package load

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/concordat-tx/concordat/node/local"
)

// processVariable holds the Config of a client process.
const processVariable = "CONCORDAT_CHAOS_CLIENT"

// Environment makes a program that calls Main a client process.
func Environment(cfg Config) (string, error) {
	b, err := json.Marshal(cfg)
	return processVariable + "=" + string(b), err
}

// Main runs a client process until SIGTERM, and does not return, if this is
// one. It is the first thing that a test's main does.
func Main() {
	text := os.Getenv(processVariable)
	if text == "" {
		return
	}
	local.ExitWithParent()
	var cfg Config
	err := json.Unmarshal([]byte(text), &cfg)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err = Run(ctx, cfg)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
