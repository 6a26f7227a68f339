package demo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/concordat-tx/concordat/test/database"
)

// all is how many processes a demo over databases starts.
const all = children + 2

// overDatabases starts one.
func overDatabases(t *testing.T, args ...string) *run {
	t.Helper()
	if err := database.Installed(); err != nil {
		t.Fatal(err)
	}
	return demo(t, append([]string{"--databases"}, args...)...)
}

// nobodyIn waits until no process works in a directory: none that was started
// there, and none that those started.
func nobodyIn(t *testing.T, dir string) {
	t.Helper()
	var left string
	until(t, "nobody works in "+dir, func() bool {
		left = ""
		list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range list {
			line, err := os.ReadFile(file)
			if err == nil && bytes.Contains(line, []byte(dir)) {
				left += strings.ReplaceAll(string(line), "\x00", " ") + "\n"
			}
		}
		return left == ""
	})
}

// The leader and both databases are killed under load: no booking is half done,
// no branch stays prepared, and nothing is left behind.
func TestDatabasesKilled(t *testing.T) {
	r := overDatabases(t, "--clients", "8", "--duration", "12s")
	if status := r.wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	rep := r.report()
	if !rep.OK || len(rep.Problems) > 0 || len(rep.Failovers) != 1 || len(rep.Strikes) != 2 || len(rep.Processes) != all {
		t.Fatalf("got %+v", rep)
	}
	now := map[string]int{}
	for _, p := range rep.Processes {
		now[p.Name] = p.PID
		if !gone(p.PID) {
			t.Errorf("%s (%d) still runs", p.Name, p.PID)
		}
	}
	for i, name := range []string{"postgres", "mariadb"} {
		s := rep.Strikes[i]
		if s.What != "kill" || s.Role != "database" || s.Name != name || s.Back == nil || s.First == nil ||
			s.Answered == nil || *s.Answered <= 0 || s.Settled == nil || *s.Settled > 0 != (s.Waiting > 0) {
			t.Errorf("strike %d: %+v, want the kill of %s, whose branches were settled", i, s, name)
		}
		if now[name] == 0 || now[name] == s.PID || !gone(s.PID) {
			t.Errorf("%s was not killed: it was %d and is %d", name, s.PID, now[name])
		}
	}
	a := rep.Audit
	if a.Bookings == 0 || a.Bookings != rep.Load.Committed || a.Commits != a.Bookings || len(a.HalfDone)+len(a.Missing) != 0 ||
		a.SeatsLeft+a.SeatsSold != a.SeatsBefore || a.SeatsSold != int64(a.Bookings) || a.MoneyNow != a.MoneyBefore || a.Revenue == 0 {
		t.Errorf("the audit found %+v of %+v", a, rep.Load)
	}
	if rep.Rest.Prepared+rep.Rest.Unfinished+rep.Rest.Locks != 0 || rep.Proofs.Made == 0 || len(rep.Proofs.Wrong) > 0 {
		t.Errorf("left %+v; while the load ran %+v", rep.Rest, rep.Proofs)
	}
	screen := r.shown()
	for _, text := range []string{"prepared in PostgreSQL and MariaDB: 0", "it answered after ", "kill postgres, a database (pid "} {
		if !strings.Contains(screen, text) {
			t.Errorf("the screen lacks %q", text)
		}
	}
	for line := range strings.Lines(screen) {
		if utf8.RuneCountInString(line) > 101 {
			t.Errorf("not for a terminal of 100 columns: %q", line)
		}
	}
	nobodyIn(t, r.temp)
	if left := r.data(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// The audit over databases finds one booking of which PostgreSQL has lost its part.
func TestFalsifiedInDatabase(t *testing.T) {
	r := overDatabases(t, "--clients", "4", "--duration", "2s", "--kill", "none", "--falsify")
	if status := r.wait(); status != 1 {
		t.Fatalf("exit status %d, want 1", status)
	}
	rep := r.report()
	if rep.OK || rep.Falsified == "" || len(rep.Audit.HalfDone) != 1 || !strings.HasPrefix(rep.Audit.HalfDone[0], rep.Falsified+":") ||
		!strings.Contains(r.shown(), "seats does not have it") {
		t.Fatalf("falsified %q, found %q, problems %q", rep.Falsified, rep.Audit.HalfDone, rep.Problems)
	}
	nobodyIn(t, r.temp)
}

// Where programs are missing the demo says which packages have them, and starts nothing.
func TestDatabasesAreMissing(t *testing.T) {
	empty := t.TempDir()
	r := demo(t, "--databases", "--postgres-bin", empty, "--mariadb-bin", empty)
	if status := r.wait(); status != 2 {
		t.Errorf("exit status %d, want 2", status)
	}
	for _, text := range []string{
		"PostgreSQL (postgres and initdb, sought in " + empty + ")", "MariaDB (mariadbd and mariadb-install-db, sought in " + empty + ")",
		"apt-get install --no-install-recommends postgresql mariadb-server-core mariadb-client-core",
	} {
		if !strings.Contains(r.shown(), text) {
			t.Errorf("the screen lacks %q", text)
		}
	}
	if left := r.data(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// A server that cannot be made ends the demo, and the other server.
func TestDatabaseDoesNotStart(t *testing.T) {
	broken := database.OpenTemp(t)
	for name, script := range map[string]string{"mariadbd": "", "mariadb-install-db": "sleep 1; echo no space; exit 3"} {
		if err := os.WriteFile(filepath.Join(broken, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := overDatabases(t, "--mariadb-bin", broken)
	if status := r.wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	for _, text := range []string{"start the cluster", broken + "/mariadb-install-db: exit status 3: no space"} {
		if !strings.Contains(r.shown(), text) {
			t.Errorf("the screen lacks %q", text)
		}
	}
	nobodyIn(t, r.temp)
	if left := r.data(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Whatever ends a demo ends its servers, and what makes them; unless it was
// killed it removes their data as well.
func TestDatabasesEndWithTheDemo(t *testing.T) {
	for name, tc := range map[string]struct {
		moment string
		end    os.Signal
		status int
	}{
		"Ctrl-C before they answer": {"data and logs in", os.Interrupt, 1},
		"Ctrl-C while one is down":  {"a database", os.Interrupt, 1},
		"kill -9":                   {" load ", os.Kill, -1},
	} {
		t.Run(name, func(t *testing.T) {
			r := overDatabases(t, "--clients", "2", "--kill", "database", "--duration", "10s")
			r.sees(tc.moment)
			var pids []int
			if tc.moment == " load " {
				pids = r.children(all)
			}
			if err := r.cmd.Process.Signal(tc.end); err != nil {
				t.Fatal(err)
			}
			if status := r.wait(); status != tc.status {
				t.Errorf("exit status %d, want %d", status, tc.status)
			}
			noneLeft(t, pids)
			nobodyIn(t, r.temp)
			if left := r.data(); len(left) > 0 && tc.status > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// Databases that are kept outlive the demo, are there for others, can be started
// again after a kill, and are gone after the command that the demo printed.
func TestKeepDatabases(t *testing.T) {
	r := overDatabases(t, "--clients", "2", "--duration", "2s", "--kill", "none", "--keep")
	if status := r.wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	screen := r.shown()
	find := func(pattern string) string {
		m := regexp.MustCompile(`(?m)^  ` + pattern + `$`).FindStringSubmatch(screen)
		if m == nil {
			t.Fatalf("the screen does not say how to play with the databases: %s", pattern)
		}
		return m[1]
	}
	nodes, stop := find(`export (CONCORDAT_NODES=\S+)`), find(`(kill -9 \$\(cat .*)`)
	shell := func(line string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "export "+nodes+"; "+line).CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() { // also when something fails
		if len(r.data()) > 0 {
			_ = exec.Command("sh", "-c", stop).Run()
		}
	})
	submit := find(`(\S+ tx submit --branch .*)`)
	if out, err := shell(submit); err != nil || !strings.Contains(out, "COMMIT") {
		t.Errorf("%s: %v\n%s", submit, err, out)
	}
	var pids []int
	for _, name := range []string{"postgres", "mariadb", "seats", "payments", "profiles", "n1", "n2", "n3"} {
		pid, err := strconv.Atoi(find(`kill -9 (\d+) +# ` + name + `; .*`))
		if err != nil || gone(pid) {
			t.Errorf("%s (%d) does not run: %v", name, pid, err)
		}
		pids = append(pids, pid)
	}
	for i, name := range []string{"postgres", "mariadb", "seats"} {
		start := find(`kill -9 \d+ +# ` + name + `; to start it again: (\S+)`)
		if out, err := shell(fmt.Sprintf("kill -9 %d; %s", pids[i], start)); err != nil {
			t.Errorf("%s: %v\n%s", start, err, out)
		}
	}
	until(t, "bookings go on", func() bool {
		out, err := shell(submit)
		return err == nil && strings.Contains(out, "COMMIT")
	})
	if out, err := shell(stop); err != nil {
		t.Errorf("%s: %v\n%s", stop, err, out)
	}
	noneLeft(t, pids)
	nobodyIn(t, r.temp)
	if left := r.data(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// On a terminal databases have lines and numbers of their own, are killed and
// paused as everything else, and cannot be cut off.
func TestDatabasesOnTerminal(t *testing.T) {
	if err := database.Installed(); err != nil {
		t.Fatal(err)
	}
	v := live(t, 80, 40, "--databases", "--clients", "4", "--kill", "none")
	v.sees(`^ Concordat demo  4 clients, no kill +n\d leads`)
	v.sees(` invariant   holds: [1-9]`)
	line := `(?m)^ [> ] %s +(\d+)  %s +\(%s\) +%s$`
	pid := func(name, state, of, prepared string) string {
		return v.sees(fmt.Sprintf(line, name, state, of, prepared))[1]
	}
	for _, db := range [][2]string{{"4 postgres", "seats"}, {"5 mariadb", "payments"}} {
		name := db[0][2:]
		first := pid(db[0], "up", db[1], `\d+`)
		v.press(db[0][:1])
		pid(db[0], "killed", db[1], "-")
		v.sees("kill -9 " + first + ": " + name + ", a database")
		v.press("r")
		until(t, name+" is up again", func() bool { return pid(db[0], "up", db[1], `\d+`) != first })
		v.sees("settled " + name)
	}
	for range 7 {
		v.press(keyDown)
	}
	v.sees(`^ > 5 mariadb`)
	v.press("c")
	v.sees("refused mariadb cannot be cut off; payments, which is over it, can")
	for _, state := range []string{"paused", "up"} {
		v.press("s")
		v.sees(fmt.Sprintf(line, "5 mariadb", state, "payments", `[-\d]+`))
	}
	v.sees(` invariant   holds: [1-9].* flights add up$`)
	v.press("q")
	if status := v.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	until(t, "all is written", func() bool { return strings.Contains(v.said(), "Every booking is whole") })
	for _, text := range []string{"kill postgres, a database", "kill mariadb, a database", "pause mariadb, a database", "prepared in PostgreSQL and MariaDB: 0"} {
		if !strings.Contains(v.said(), text) {
			t.Errorf("the report lacks %q", text)
		}
	}
	nobodyIn(t, v.temp)
}
