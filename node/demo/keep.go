package demo

import (
	"context"
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
func (d *Demo) Keep(ctx context.Context) error {
	for _, s := range d.stores {
		if err := s.server.Release(ctx); err != nil {
			return fmt.Errorf("--keep: %w", err)
		}
	}
	pids := ""
	for _, p := range d.processes() {
		pids += fmt.Sprintln(p.PID)
	}
	if err := os.WriteFile(filepath.Join(d.dir, pidFile), []byte(pids), 0o600); err != nil {
		return fmt.Errorf("--keep: %w", err)
	}
	for _, s := range d.hand.subjects {
		if err := d.writeStarter(s); err != nil {
			return fmt.Errorf("--keep: %w", err)
		}
	}
	d.temporary = false
	d.hints()
	if err := d.cluster.Release(); err != nil {
		return fmt.Errorf("--keep: %w", err)
	}
	for _, s := range d.stores {
		_ = s.db.Close() // it holds no connection
	}
	d.stores = nil
	return nil
}

// writeStarter leaves a script that starts one process again.
func (d *Demo) writeStarter(s *subject) error {
	var line, env []string
	switch p := s.proc.(type) {
	case *local.Process:
		line, env = append([]string{p.Binary()}, p.Args()...), p.Env()
	case server:
		line = p.Line()
	}
	script := "#!/bin/sh\n"
	for _, e := range env {
		script += "export " + quoted(e) + "\n"
	}
	words := make([]string, 0, len(line))
	for _, w := range line {
		words = append(words, quoted(w))
	}
	start := fmt.Sprintf("nohup %s </dev/null >>%s 2>&1 &\n", strings.Join(words, " "), quoted(s.log))
	note := fmt.Sprintf("echo $! >>%s\n", quoted(filepath.Join(d.dir, pidFile)))
	if s.store != nil {
		// What is left of a server that was killed may take a moment to end.
		start = "for try in 1 2 3 4 5 6 7 8 9 10; do\n" + start + "sleep 1\nkill -0 $! 2>/dev/null && break\ndone\n"
	}
	script += start + note
	return os.WriteFile(d.starter(s.name), []byte(script), 0o700)
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
	if len(d.stores) == 0 {
		s.line("  %s kv get seats flight/LH100", program)
		s.line("  %s tx get booking-000001", program)
		s.line(`  %s tx submit --branch 'seats={"ops":[{"op":"add","key":"flight/LH100","delta":-1,"min":0}]}'`, program)
	} else {
		s.line("  %s participants census seats", program)
		s.line("  %s tx get booking-000001", program)
		s.line(`  %s tx submit --branch 'seats={"statements":[{"sql":"UPDATE flight SET seats = seats - 1 WHERE name = $1 AND seats > 0","args":["LH100"],"rows":1}]}'`, program)
	}
	for _, store := range d.stores {
		s.line("  %s", store.client)
	}
	for _, p := range d.processes() {
		s.line("  kill -9 %-8d # %s; to start it again: %s", p.PID, p.Name, d.starter(p.Name))
	}
	s.line("To stop everything and remove the data:")
	s.line("  %s", d.stopCommand())
}

// stopCommand ends every process that runs and removes what they left.
func (d *Demo) stopCommand() string {
	kill := "kill"
	if len(d.stores) > 0 { // a database that is asked to end takes its time, and writes to what is removed
		kill = "kill -9"
	}
	return fmt.Sprintf("%s $(cat %s); rm -r %s", kill, quoted(filepath.Join(d.dir, pidFile)), quoted(d.dir))
}
