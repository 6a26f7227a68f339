package failpoint_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

var update = flag.Bool("update", false, "rewrite docs/crash-points.md")

const tableFile = root + "/docs/crash-points.md"

// The page is what the list of points says.
func TestTable(t *testing.T) {
	want := table()
	if *update {
		if err := os.WriteFile(tableFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/crash-points.md is not what the list of points says: go test ./fsm/failpoint -run TestTable -update")
	}
}

const tableHead = `# Crash points

Generated from the list in ` + "`fsm/failpoint`" + `; do not edit.

A crash is the end of a process by SIGKILL, without deferred calls. ` + "`test/crash`" + ` lets every process that passes a
point die there, one at a time (` + "`make crash`" + `), and in pairs for as long as one likes. After each crash, with the process
started again:

- every transaction whose outcome a client was told has that outcome, for whoever asks again and in the data of every
  participant; one whose outcome its client did not learn has the same outcome everywhere, by its id;
- nothing was aborted because a node died;
- no branch is in doubt, no lock is held, and the nodes' states are equal, byte for byte, at the same index;
- later transactions commit.

What must hold besides, at each point, is in the last column. The points are in a build of their own
(` + "`go build -tags failpoints`" + `) and leave no trace in the ordinary one, which is tested, too. The list is complete:
the system calls of every process are traced while a transaction runs, and each write, sync, rename, link and removal of
a file, and each message at either end, must lie between two points.

The agents over PostgreSQL and MariaDB pass the participant's points, too. ` + "`TestWindows`" + ` in ` + "`test/databases`" + ` holds a branch
there, or in a PREPARE or COMMIT that the database does not end, and kills the database, the agent or the leader meanwhile.

A node that starts counts as a follower. The part in front of a message's name says who is at that end: candidate and
voter are nodes in an election, dialer and listener two nodes that meet. *Send* and *answer* are the caller's view of a
call, *receive* and *answer* the view of the other end.

Not in the list are the calls that only read, what an operator asks for by hand (one command for the log each), and the
file in which alerts are remembered, which no transaction rests on.
`

func table() string {
	var b strings.Builder
	b.WriteString(tableHead)
	points := failpoint.Points()
	crashes := 0
	for _, p := range points {
		crashes += len(p.Roles)
	}
	fmt.Fprintf(&b, "\n%d points; %d crashes, since some are passed by leaders and by followers.\n", len(points), crashes)
	for _, kind := range []failpoint.Kind{failpoint.Durable, failpoint.Message} {
		fmt.Fprintf(&b, "\n## Every %s\n\n| point | process | where it is | after a crash there |\n|---|---|---|---|\n", kind)
		for _, p := range points {
			if p.Kind == kind {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p.Name, strings.Join(p.Roles, ", "), p.Meaning, p.Holds)
			}
		}
	}
	fmt.Fprintf(&b, "\n## Calls without points\n\n| method | why |\n|---|---|\n")
	for _, e := range failpoint.Exempt {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e.Method, e.Why)
	}
	return b.String()
}
