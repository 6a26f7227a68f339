package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// childVariable has the address of a database in which this program, started
// again, prepares a branch: TestMain calls child. wholeVariable says that it goes
// out whole.
const (
	childVariable = "CONCORDAT_TEST_CHILD"
	wholeVariable = "CONCORDAT_TEST_WHOLE"
)

// slowWork is a branch whose PREPARE takes a while: a deferred trigger sleeps.
func slowWork(b *bench) participant.Work {
	return b.work("late", 1, sql("INSERT INTO slow VALUES (1)"), addOneMore("k"))
}

// child is the life of a participant that is killed.
func child(dsn string) int {
	ctx := context.Background()
	s, err := Open(ctx, Options{Name: "suite", DSN: dsn, familiar: os.Getenv(wholeVariable) != ""})
	if err == nil {
		_, err = s.Identity(ctx)
	}
	if err == nil {
		_, err = s.Prepare(ctx, slowWork(&bench{t: &testing.B{}}))
	}
	fmt.Fprintln(os.Stderr, "child:", err)
	return 1
}

// The process dies while its PREPARE is at work, and the server does not notice.
// Whoever is told to roll the branch back must not say DONE while the branch can
// still become prepared.
func TestALatePrepareLeavesNoOrphan(t *testing.T) {
	for name, whole := range map[string]string{"by itself": "", "behind the branch": "1"} {
		t.Run(name, func(t *testing.T) { latePrepare(t, wholeVariable+"="+whole) })
	}
}

func latePrepare(t *testing.T, variable string) {
	b, s := opened(t, Options{})
	hand := connect(t, b.dsn)
	do(t, hand,
		"CREATE TABLE slow (n int)",
		"CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$",
		"CREATE CONSTRAINT TRIGGER sleeps AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleep()")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+b.dsn, variable)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	preparing := func() (n int) {
		t.Helper()
		err := hand.QueryRow(within(t, patience), `SELECT count(*) FROM pg_stat_activity
			WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE 'PREPARE TRANSACTION%' AND datname = current_database()`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	b.eventually(func() error {
		if preparing() == 0 {
			return fmt.Errorf("nobody prepares: %s", said.String())
		}
		return nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if preparing() == 0 {
		t.Log("the server has noticed already, so this run shows little")
	}
	w := slowWork(b)
	b.held(s) // not yet: to say now that it is absent would be wrong
	ctx := within(t, time.Minute)
	b.done(s.Rollback(ctx, w.Ref))
	if n := preparing(); n != 0 {
		t.Errorf("%d sessions still prepare", n)
	}
	b.held(s)
	b.aborted(s, w, pb.Reason_SUPERSEDED)
	// Its work is not in anybody's way.
	b.prepared(s, b.work("next", 2, addOne("k")))
	b.counts("k", 0)
}

// The process vanishes in the middle of its work: its session holds the locks
// until the branch is rolled back.
func TestAVanishedBranchIsFenced(t *testing.T) {
	reached, go_ := make(chan struct{}), make(chan struct{})
	b, s := opened(t, Options{Work: Statements})
	stuck, err := Open(within(t, patience), Options{Name: "suite", DSN: b.dsn, Work: hang(reached, go_)})
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if _, err := stuck.Identity(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	w := b.work("t", 1, addOne("k"))
	ended := make(chan error, 1)
	go func() {
		v, err := stuck.Prepare(context.Background(), w)
		if err == nil && v.Kind == pb.Vote_VOTE_PREPARED {
			err = fmt.Errorf("voted PREPARED")
		} else {
			err = nil
		}
		ended <- err
	}()
	<-reached
	b.done(s.Rollback(within(t, patience), w.Ref))
	close(go_)
	if err := <-ended; err != nil {
		t.Errorf("after the rollback: %v", err)
	}
	b.held(s)
	b.aborted(s, w, pb.Reason_SUPERSEDED)
	b.counts("k", 0)
}
