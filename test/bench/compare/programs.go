package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// programs are what is measured that is not ours, as far as it is there.
func programs(ctx context.Context, o options) (found []version) {
	ask := func(name, program string) {
		if said, err := exec.CommandContext(ctx, program, "--version").Output(); err == nil {
			first, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
			found = append(found, version{name, first})
		}
	}
	if slices.Contains(o.only, "etcd") {
		ask("etcd", "etcd")
	}
	if servers, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); slices.Contains(o.only, "postgres") && len(servers) > 0 {
		ask("postgres", servers[len(servers)-1])
	}
	return found
}
