package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/concordat-tx/concordat/node/local"
)

// pidFile holds the ids of the processes that go on, one a line.
const pidFile = "pids"

// Keep lets go of the cluster: it goes on when this process has ended, and
// Close leaves it and the data alone. What it takes to stop it is on the screen
// before anything is let go, and in the data directory.
func (d *Demo) Keep() error {
	pids := ""
	for _, p := range d.processes() {
		pids += fmt.Sprintln(p.PID)
	}
	if err := os.WriteFile(filepath.Join(d.dir, pidFile), []byte(pids), 0o600); err != nil {
		return fmt.Errorf("--keep: %w", err)
	}
	for _, s := range d.hand.subjects {
		if err := d.writeStarter(s.proc); err != nil {
			return fmt.Errorf("--keep: %w", err)
		}
	}
	d.temporary = false
	d.hints()
	if err := d.cluster.Release(); err != nil {
		return fmt.Errorf("--keep: %w", err)
	}
	return nil
}

// writeStarter leaves a script that starts one process again.
func (d *Demo) writeStarter(p *local.Process) error {
	words := make([]string, 0, len(p.Args())+1)
	for _, w := range append([]string{p.Binary()}, p.Args()...) {
		words = append(words, quoted(w))
	}
	script := fmt.Sprintf("#!/bin/sh\nnohup %s </dev/null >>%s 2>&1 &\necho $! >>%s\n",
		strings.Join(words, " "), quoted(p.Log), quoted(filepath.Join(d.dir, pidFile)))
	return os.WriteFile(d.starter(p.Name), []byte(script), 0o700)
}

func (d *Demo) starter(name string) string { return filepath.Join(d.dir, "start-"+name) }

// quoted is a word for a shell.
func quoted(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// hints says how to play with the cluster, and how to end it.
func (d *Demo) hints() {
	s := d.screen
	program := d.cfg.Binary
	s.line("")
	s.title("The cluster goes on. Data, logs and process ids are in %s", d.dir)
	s.line("  export CONCORDAT_NODES=%s", strings.Join(d.cluster.Addresses(), ","))
	s.line("  %s cluster status", program)
	s.line("  %s kv get seats flight/LH100", program)
	s.line("  %s tx get booking-000001", program)
	s.line(`  %s tx submit --branch 'seats={"ops":[{"op":"add","key":"flight/LH100","delta":-1,"min":0}]}'`, program)
	for _, p := range d.processes() {
		s.line("  kill -9 %-8d # %s; to start it again: %s", p.PID, p.Name, d.starter(p.Name))
	}
	s.line("To stop everything and remove the data:")
	s.line("  %s", d.stopCommand())
}

// stopCommand ends every process that runs and removes what they left.
func (d *Demo) stopCommand() string {
	return fmt.Sprintf("kill $(cat %s); rm -r %s", quoted(filepath.Join(d.dir, pidFile)), quoted(d.dir))
}
