package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The live view on the smallest terminal that shows all of it: every key does
// what the last lines say, the invariant is checked all the time, and q ends
// with the audit.
func TestLiveView(t *testing.T) {
	v := live(t, 80, 24, "--clients", "4", "--kills", "0")
	v.sees(`^ Concordat demo  4 clients, no kill +n\d leads, term \d+   0:\d\d$`)
	v.sees(` q end, audit$`)
	first := v.processes()
	if first == nil {
		t.Fatal("not every process is on the screen")
	}
	for _, step := range []func(*testing.T, *terminal){
		numbersAreShown, invariantIsChecked, leaderIsKilled, followerIsKilled, participantsAreKilled,
		chosenIsKilled, chosenIsPaused, leaderIsCutOff, liveViewEnds,
	} {
		step(t, v)
	}
	for _, p := range first {
		if !gone(p.pid) {
			t.Errorf("%s (%d) still runs", p.name, p.pid)
		}
	}
	if left, err := filepath.Glob(filepath.Join(v.temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func numbersAreShown(_ *testing.T, v *terminal) {
	v.sees(`^ bookings/s +[1-9]\d*   p50 +\d+ ms   p99 +[\d.]+ m?s .*peak [1-9]`)
	v.sees(`^ bookings +[1-9][\d,]* committed, \d+ refused`)
	v.sees(`^ in doubt +\d+ undecided +\d+ undelivered   oldest `)
	v.sees(`^ > n1 +\d+  up +(leader|follower) +\d+ +[1-9]`)
	v.sees(`^   3 profiles +\d+  up +yes +\d+ `)
	v.sees(`failover    none yet: l kills the leader`)
}

// invariantIsChecked: again and again, each time it holds, and when that was is shown.
func invariantIsChecked(t *testing.T, v *terminal) {
	for last := 0; last < 4; {
		v.sees(`^ invariant   holds: \d+ bookings are in all three, \d+ in none; 40 flights add up$`)
		checks, err := strconv.Atoi(v.sees(`^ +money 7,200,042,000, as ever; (\d+) checks?, the last \d s ago`)[1])
		if err != nil {
			t.Fatal(err)
		}
		if checks < last {
			t.Errorf("check %d is shown after check %d", checks, last)
		}
		last = checks
	}
}

// back has everything put right, and waits until a process that was killed runs
// again under another id.
func (v *terminal) back(killed process) {
	v.t.Helper()
	v.press("r")
	if p := v.await(killed.name, "up"); p.pid == killed.pid || !gone(killed.pid) {
		v.t.Errorf("%s was not killed: %+v then %+v", killed.name, killed, p)
	}
	v.sees(killed.name + ` was started again \(pid \d+\)`)
}

func leaderIsKilled(t *testing.T, v *terminal) {
	name, term := v.leader()
	v.press("l")
	killed := v.await(name, "killed")
	v.sees(fmt.Sprintf(`^ failover    kill -9 %s, leader of term %d, with \d+ bookings? under way$`, name, term))
	v.sees(`^ +\+\d+ ms noticed, \+\d+ n\d elected, \+\d+ serves, \+\d+ first commit$`)
	v.sees(`^ +\d+ taken over, 0 open, 0 aborted by it`)
	if heir, next := v.leader(); heir == name || next <= term {
		t.Errorf("%s leads in term %d, after %s in term %d", heir, next, name, term)
	}
	v.back(killed)
	v.sees(`0 aborted by it; ` + name + ` back after \d+\.\d s$`)
}

func followerIsKilled(t *testing.T, v *terminal) {
	leader, _ := v.leader()
	v.press("f")
	name := v.sees(`KILL    kill -9 \d+: (n\d), a follower`)[1]
	if name == leader {
		t.Errorf("%s was killed, which leads", name)
	}
	v.back(v.await(name, "killed"))
}

// p takes turns; 1, 2 and 3 do not.
func participantsAreKilled(_ *testing.T, v *terminal) {
	for _, key := range []struct{ key, name string }{{"p", "seats"}, {"3", "profiles"}, {"p", "payments"}, {"1", "seats"}} {
		v.press(key.key)
		killed := v.await(key.name, "killed")
		v.sees(fmt.Sprintf(`kill -9 %d: %s, a participant`, killed.pid, key.name))
		v.back(killed)
	}
}

// choose moves the mark to a process.
func (v *terminal) choose(name string) {
	v.t.Helper()
	for range children {
		at := v.sees(`^ > (?:\d )?(\w+) `)[1]
		if at == name {
			return
		}
		v.press(keyDown)
		until(v.t, "the mark moves", func() bool { return v.sees(`^ > (?:\d )?(\w+) `)[1] != at })
	}
	v.t.Fatalf("%s cannot be chosen", name)
}

func chosenIsKilled(_ *testing.T, v *terminal) {
	v.choose("profiles")
	v.press("x")
	v.back(v.await("profiles", "killed"))
}

func chosenIsPaused(t *testing.T, v *terminal) {
	v.choose("payments")
	for _, resume := range []string{"s", "r"} {
		v.press("s")
		p := v.await("payments", "paused")
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil || !strings.Contains(string(stat), ") T ") {
			t.Errorf("%d is not stopped: %s %v", p.pid, stat, err)
		}
		v.press(resume)
		if again := v.await("payments", "up"); again.pid != p.pid {
			t.Errorf("it runs as %d, was paused as %d", again.pid, p.pid)
		}
	}
}

// A leader that is cut off keeps running and leads no more.
func leaderIsCutOff(t *testing.T, v *terminal) {
	name, term := v.leader()
	v.choose(name)
	v.press("c")
	cut := v.await(name, "cut off")
	until(t, "another leads", func() bool {
		heir, next := v.leader()
		return heir != name && next > term
	})
	v.press("c")
	until(t, name+" follows again", func() bool {
		p := v.processes()[name]
		return p.state == "up" && p.pid == cut.pid && strings.HasPrefix(p.rest, "follower")
	})
	v.sees(`heal    ` + name + ` is connected again`)
}

func liveViewEnds(t *testing.T, v *terminal) {
	v.press("q")
	v.sees(`ctrl\+c leave without the audit`)
	if status := v.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	said := v.said()
	for _, text := range []string{
		"LOAD  ", "FAILOVER  kill -9 of n", "aborted because of the failover: 0", "WHAT ELSE WAS DONE", ", a follower (pid ",
		"kill seats, a participant (pid ", "pause payments, a participant (pid ", "cut n", ", the leader (pid ",
		"AUDIT", "half done: 0", "money: 7,200,042,000, and there was 7,200,042,000", "wrong: 0",
		"Every booking is whole: all of it, or nothing of it.",
	} {
		if !strings.Contains(said, text) {
			t.Errorf("the report lacks %q", text)
		}
	}
	if strings.Contains(said, "WRONG") {
		t.Error("the report says that something is wrong")
	}
}

// Ctrl-C leaves at once, gives the terminal back and leaves nothing behind, also
// with --keep. What a key cannot do is said.
func TestLiveViewLeft(t *testing.T) {
	v := live(t, 100, 30, "--clients", "2", "--rate", "20", "--keep")
	v.sees(`^ Concordat demo  2 clients, 20 bookings a second, 1 kill \(leader\)`)
	v.sees(` invariant   holds`)
	v.press("c")
	v.sees(`refused with --keep nothing can be cut off`)
	list := v.processes()
	v.press("\x03")
	if status := v.wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	until(t, "the screen is given back", func() bool { return strings.Contains(v.said(), "demo: interrupted") })
	for _, p := range list {
		until(t, p.name+" is gone", func() bool { return gone(p.pid) })
	}
	if left, err := filepath.Glob(filepath.Join(v.temp, "*")); len(list) != children || err != nil || len(left) > 0 {
		t.Errorf("%d children, left %v, %v", len(list), left, err)
	}
}

// --plain prints lines on a terminal as well, with the invariant in each second.
func TestPlainOnTerminal(t *testing.T) {
	v := live(t, 100, 30, "--plain", "--clients", "2", "--kills", "0", "--duration", "3s")
	if status := v.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	until(t, "all is written", func() bool { return strings.Contains(v.said(), "Every booking is whole") })
	if said := v.said(); strings.Count(said, " bookings/s  p50 ") < 2 || !strings.Contains(said, ", money same\n") {
		t.Errorf("not line by line:\n%s", said)
	}
}
