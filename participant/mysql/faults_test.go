package mysql

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/database"
)

// kill -9 of the database around every durable write: what was promised is
// there, what was not answered comes to one end, and the same message again to
// the same. Money is constant.
func TestKillOfTheDatabase(t *testing.T) {
	dsn, db := newDatabase(t)
	mustExec(t, db, "INSERT INTO counts VALUES ('ann', 1000), ('bob', 1000)")
	killAt, before := 0, false
	around := func(write func() error) error {
		if killAt--; killAt != 0 {
			return write()
		}
		if before {
			return errors.Join(mariaDB.Kill(), write())
		}
		return errors.Join(write(), mariaDB.Kill())
	}
	m := open(t, Options{Name: "p", DSN: dsn, around: around})
	n := uint64(0)
	moved, kills := 0, 0
	for _, step := range []string{"prepare", "commit", "rollback"} {
		for at := 1; at <= 2; at++ {
			for _, before = range []bool{true, false} {
				name := fmt.Sprintf("%s-%d-%v", step, at, before)
				n++
				w := sqlWork(name, n, plain("UPDATE counts SET n = n - 1 WHERE k = 'ann'"), plain("UPDATE counts SET n = n + 1 WHERE k = 'bob'"))
				settle, want := m.Commit, pb.Settled_SETTLED_DONE
				if step == "rollback" {
					settle = m.Rollback
				} else {
					moved++
				}
				call := func() error {
					_, err := settle(t.Context(), w.Ref)
					return err
				}
				if step == "prepare" {
					call = func() error {
						v, err := m.Prepare(t.Context(), w)
						if err == nil && v.Kind != pb.Vote_VOTE_PREPARED {
							t.Errorf("%s: voted %v %s", name, v.Code, v.Message)
						}
						return err
					}
				} else {
					mustPrepareOrDone(t, m, w)
				}
				killAt = at
				err := call()
				killed := killAt <= 0
				killAt = 0
				if killed && err != nil && !participant.IsTransient(err) {
					t.Errorf("%s: %v is not one that is tried again", name, err)
				}
				if killed {
					kills++
					if err := mariaDB.Restart(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if step != "rollback" {
					mustPrepareOrDone(t, m, w)
				}
				var st participant.Settlement
				err = again(t, func() (err error) {
					st, err = settle(t.Context(), w.Ref)
					return err
				})
				if err != nil || st.Settled != want {
					t.Errorf("%s: %v %s, %v", name, st.Settled, st.Message, err)
				}
			}
		}
	}
	if kills < 8 {
		t.Errorf("only %d kills", kills)
	}
	for key, want := range map[string]int64{"ann": 1000 - int64(moved), "bob": 1000 + int64(moved)} {
		if n, err := counted(t.Context(), db, key); err != nil || n != want {
			t.Errorf("%s has %d, %v; want %d", key, n, err, want)
		}
	}
	if held, err := m.Held(t.Context()); err != nil || len(held) != 0 {
		t.Errorf("held: %v, %v", held, err)
	}
}

// again repeats a call whose error may pass, as the runtime does: a connection
// may turn out to be dead some time after a server's death.
func again(t *testing.T, call func() error) error {
	t.Helper()
	for try := 1; ; try++ {
		err := call()
		if !participant.IsTransient(err) || try == 10 {
			return err
		}
		if err := pause(t.Context(), 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// mustPrepareOrDone repeats a Prepare of a branch that may be settled already.
func mustPrepareOrDone(t *testing.T, m *Manager, w participant.Work) {
	t.Helper()
	var v participant.Vote
	err := again(t, func() (err error) {
		v, err = m.Prepare(t.Context(), w)
		return err
	})
	if err != nil || v.Kind != pb.Vote_VOTE_PREPARED && v.Code != pb.Reason_SUPERSEDED {
		t.Errorf("Prepare of %s again: %v %s, %v", w.ID, v.Code, v.Message, err)
	}
}

// While the database is down everything is an error that is tried again, and
// none of them shows the password.
func TestDatabaseThatIsDown(t *testing.T) {
	dsn, _ := newDatabase(t)
	m := open(t, Options{Name: "p", DSN: dsn, Work: count})
	held, other := work("t", 1, "k"), work("u", 2, "k2")
	mustPrepare(t, m, held)
	if err := mariaDB.Kill(); err != nil {
		t.Fatal(err)
	}
	_, errPrepare := m.Prepare(t.Context(), other)
	_, errCommit := m.Commit(t.Context(), held.Ref)
	_, errRollback := m.Rollback(t.Context(), other.Ref)
	_, errHeld := m.Held(t.Context())
	_, errOpen := Open(t.Context(), Options{Name: "p", DSN: dsn, Work: count})
	for what, err := range map[string]error{"Prepare": errPrepare, "Commit": errCommit, "Rollback": errRollback, "Held": errHeld, "Open": errOpen} {
		if err == nil || !participant.IsTransient(err) || strings.Contains(err.Error(), mariaDB.Password()) {
			t.Errorf("%s: %v", what, err)
		}
	}
	began := time.Now()
	if err := mariaDB.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("the server answers after %s", time.Since(began))
	began = time.Now()
	var st participant.Settlement
	err := again(t, func() (err error) {
		st, err = m.Commit(t.Context(), held.Ref)
		return err
	})
	if err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Errorf("Commit: %+v, %v", st, err)
	}
	t.Logf("settled %s after the database was reachable again", time.Since(began))
}

// Branches of others on the same server, made by hand, by another cluster or by
// another participant, are never touched or shown as ours.
func TestForeignBranchesAreNotTouched(t *testing.T) {
	dsn, db := newDatabase(t)
	mustExec(t, db, "CREATE TABLE notes (k INT PRIMARY KEY) ENGINE=InnoDB")
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"XA START 'by-hand','1',1", "INSERT INTO notes VALUES (1)", "XA END 'by-hand','1',1", "XA PREPARE 'by-hand','1',1"} {
		if _, err := c.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	m := open(t, Options{Name: "p", DSN: dsn, Work: count})
	neighbour := open(t, Options{Name: "q", DSN: dsn, Work: count})
	stranger, err := Open(t.Context(), Options{Name: "s", DSN: dsn, Work: count})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Close() })
	if err := stranger.Bind(t.Context(), participant.Binding{ClusterID: "another", Generation: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	mine := work("t", 1, "k1")
	for i, other := range []*Manager{neighbour, stranger} { // the same id, attempt and all
		mustPrepare(t, other, participant.Work{Ref: mine.Ref, Payload: fmt.Appendf(nil, "o%d", i)})
	}
	mustPrepare(t, m, mine)
	if held, err := m.Held(t.Context()); err != nil || len(held) != 1 || held[0].Ref != mine.Ref {
		t.Errorf("held: %v, %v", held, err)
	}
	all, err := m.Survey(t.Context())
	kin := map[sqlbranch.Kinship]int{}
	for _, p := range all.Prepared {
		kin[p.Kinship]++
	}
	if err != nil || kin[sqlbranch.Ours] != 1 || kin[sqlbranch.OtherParticipant] < 1 || kin[sqlbranch.OtherCluster] < 1 || kin[sqlbranch.Foreign] != 1 {
		t.Errorf("census: %v, %v", kin, err)
	}
	registry := prometheus.NewPedanticRegistry()
	for _, c := range m.Collectors() {
		registry.MustRegister(c)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Error(err)
	}
	shown := map[string]float64{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			name := f.GetName()
			for _, l := range metric.GetLabel() {
				name += " " + l.GetValue()
			}
			shown[name] = metric.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"concordat_database_prepared ours": 1, "concordat_database_prepared foreign": 1, "concordat_database_up": 1,
		"concordat_database_instance_changed": 0, "concordat_mysql_pinned_sessions": 1,
	} {
		if got, ok := shown[name]; !ok || got != want {
			t.Errorf("%s is %v (there: %v), want %v", name, got, ok, want)
		}
	}
	mustCommit(t, m, mine)
	if st, err := m.Rollback(t.Context(), work("u", 2, "k2").Ref); err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Errorf("Rollback: %+v, %v", st, err)
	}
	for name, other := range map[string]*Manager{"neighbour": neighbour, "stranger": stranger} {
		if held, err := other.Held(t.Context()); err != nil || len(held) != 1 {
			t.Errorf("%s holds %v, %v", name, held, err)
		}
		if st, err := other.Rollback(t.Context(), mine.Ref); err != nil || st.Settled != pb.Settled_SETTLED_DONE {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	if _, err := c.ExecContext(t.Context(), "XA COMMIT 'by-hand','1',1"); err != nil {
		t.Errorf("the branch made by hand is gone: %v", err)
	}
	var rows int
	if err := db.QueryRow("SELECT COUNT(*) FROM notes").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("its row: %d, %v", rows, err)
	}
	if err := m.Bind(t.Context(), participant.Binding{ClusterID: "another", Generation: 1, Term: 1}); err == nil {
		t.Error("data of one cluster were bound to another")
	}
}

// Branches that somebody settles by hand are found out, and never called success.
func TestSettledByHand(t *testing.T) {
	dsn, db := newDatabase(t)
	m := open(t, Options{Name: "p", DSN: dsn, Work: count})
	byHand := func(w participant.Work, verb string) {
		t.Helper()
		m.pinned.take(w.Ref).destroy()
		if err := m.release(t.Context(), w.Ref); err != nil {
			t.Fatal(err)
		}
		mustExec(t, db, verb+" "+m.xid(w.Ref))
	}
	a, b := work("a", 1, "ka"), work("b", 2, "kb")
	mustPrepare(t, m, a)
	mustPrepare(t, m, b)
	byHand(a, "XA COMMIT")
	byHand(b, "XA ROLLBACK")
	if st, err := m.Rollback(t.Context(), a.Ref); err != nil || st.Settled != pb.Settled_HEURISTIC_COMMIT {
		t.Errorf("rollback of what was committed by hand: %+v, %v", st, err)
	}
	if st, err := m.Commit(t.Context(), b.Ref); err != nil || st.Settled != pb.Settled_HEURISTIC_ROLLBACK {
		t.Errorf("commit of what was rolled back by hand: %+v, %v", st, err)
	}
}

// A commit that arrives once more, when another instance has committed the
// branch and forgotten it, is no sign of a hand: it is the hazard that the
// runtime knows how to take below the floor.
func TestLateCommitOfWhatAnotherInstanceForgot(t *testing.T) {
	dsn, _ := newDatabase(t)
	one := open(t, Options{Name: "p", DSN: dsn, Work: count})
	other := open(t, Options{Name: "p", DSN: dsn, Work: count})
	w := work("t", 1, "k")
	mustPrepare(t, one, w)
	mustCommit(t, other, w)
	floor := work("", 9, "").Attempt
	if err := other.Forget(t.Context(), floor, []participant.Ref{w.Ref}); err != nil {
		t.Fatal(err)
	}
	if refs, err := one.Finished(t.Context(), 10); err != nil || len(refs) != 0 {
		t.Errorf("finished: %v, %v", refs, err)
	}
	if st, err := one.Commit(t.Context(), w.Ref); err != nil || st.Settled != pb.Settled_HEURISTIC_HAZARD {
		t.Errorf("late commit: %+v, %v", st, err)
	}
}

// The session of a work in progress is ended by the rollback that another
// instance is told of; the work is never prepared after that.
func TestRollbackEndsTheWorkOfAnotherInstance(t *testing.T) {
	dsn, db := newDatabase(t)
	ctx := t.Context()
	slow := open(t, Options{Name: "p", DSN: dsn})
	other := open(t, Options{Name: "p", DSN: dsn, Work: count})
	w := sqlWork("t", 1, plain("INSERT INTO counts VALUES ('k', 1)"), plain("SELECT SLEEP(20)"))
	var wg sync.WaitGroup
	began := time.Now()
	wg.Go(func() {
		if v, err := slow.Prepare(ctx, w); err == nil && v.Kind == pb.Vote_VOTE_PREPARED {
			t.Error("the work was prepared after its rollback")
		}
	})
	for { // until it sleeps
		tr, err := other.trace(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		if tr.branch == w.Ref {
			break
		}
		if err := pause(ctx, goneEvery); err != nil {
			t.Fatal(err)
		}
	}
	st, err := other.Rollback(ctx, w.Ref)
	for participant.IsTransient(err) && time.Since(began) < 15*time.Second { // as whoever decided it would
		st, err = other.Rollback(ctx, w.Ref)
	}
	if err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Errorf("Rollback: %+v, %v", st, err)
	}
	wg.Wait()
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("it took %s", d)
	}
	if v, err := slow.Prepare(ctx, w); err != nil || v.Code != pb.Reason_SUPERSEDED {
		t.Errorf("Prepare after the rollback: %+v, %v", v, err)
	}
	if n, err := counted(ctx, db, "k"); err != nil || n != 0 {
		t.Errorf("k counts %d, %v", n, err)
	}
}

// On a copy of the data nothing is rolled back and nothing missing is believed,
// until an operator says that the copy is what counts.
func TestRestoredCopyMustBeAccepted(t *testing.T) {
	server, err := database.StartMariaDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	dsn, err := server.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	options := Options{Name: "p", DSN: dsn + "?time_zone=%27%2B05%3A30%27"} // of the branches' sessions
	m := open(t, options)
	made := time.Now().Unix()
	committed, doomed := sqlWork("a", 1, plain("SELECT 1")), sqlWork("b", 2, plain("SELECT 1"))
	mustPrepare(t, m, committed)
	mustPrepare(t, m, doomed)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	reopen := func() *Manager {
		t.Helper()
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		return open(t, options)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	m = reopen()
	if old, now, changed := m.InstanceChanged(); changed {
		t.Fatalf("a restart is taken for another instance: %q, %q", old, now)
	}
	_ = m.Close()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for time.Now().Unix() == made { // files are as old as the second
		if err := pause(t.Context(), goneEvery); err != nil {
			t.Fatal(err)
		}
	}
	copied := server.Dir() + ".copy"
	for _, c := range [][]string{{"cp", "-a", server.Dir(), copied}, {"mv", server.Dir(), server.Dir() + ".old"}, {"mv", copied, server.Dir()}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", c, err, out)
		}
	}
	m = reopen()
	if _, _, changed := m.InstanceChanged(); !changed {
		t.Fatal("a copy of the data is taken for the original")
	}
	mustCommit(t, m, committed) // a known decision is delivered and proven
	for what, call := range map[string]func() (participant.Settlement, error){
		"rollback of a held one": func() (participant.Settlement, error) { return m.Rollback(t.Context(), doomed.Ref) },
		"rollback of a lost one": func() (participant.Settlement, error) { return m.Rollback(t.Context(), sqlWork("c", 3).Ref) },
		"commit of a lost one":   func() (participant.Settlement, error) { return m.Commit(t.Context(), sqlWork("c", 3).Ref) },
	} {
		if st, err := call(); err == nil || !participant.IsTransient(err) || !strings.Contains(err.Error(), "an operator must accept it") {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
	}
	mustAbort(t, m, sqlWork("d", 4, plain("SELECT 1")), pb.Reason_INCARNATION, "an operator must accept it")
	if held, err := m.Held(t.Context()); err != nil || len(held) != 1 {
		t.Errorf("held: %v, %v", held, err)
	}
	beside := open(t, options)
	now, bound := beside.Instance()
	if err := beside.AcceptInstance(t.Context(), bound); !errors.Is(err, participant.ErrInstance) {
		t.Errorf("the server that is gone was accepted: %v", err)
	}
	if err := beside.AcceptInstance(t.Context(), now); err != nil { // as a command would, beside it
		t.Fatal(err)
	}
	if st, err := m.Rollback(t.Context(), doomed.Ref); err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Errorf("after the word of an operator: %+v, %v", st, err)
	}
	zone := sqlWork("d", 4, plain("SELECT @@session.time_zone"))
	if v := mustPrepare(t, m, zone); !strings.Contains(string(v.Result), "+05:30") {
		t.Errorf("the session's time zone: %s", v.Result)
	}
}

// Each of these is refused at the start, with what to do about it.
func TestOpenRefuses(t *testing.T) {
	dsn, _ := newDatabase(t)
	db := mariaDB.Admin()
	name := dsn[strings.LastIndex(dsn, "/")+1:]
	user := func(n string, grants ...string) string {
		mustExec(t, db, "CREATE USER "+n+"@'127.0.0.1' IDENTIFIED BY '"+mariaDB.Password()+"'")
		for _, g := range grants {
			mustExec(t, db, "GRANT "+g+" TO "+n+"@'127.0.0.1'")
		}
		return mariaDB.DSN(n, mariaDB.Password(), name)
	}
	all := "ALL ON " + name + ".*"
	tests := map[string]struct{ dsn, says string }{
		"no DSN":          {"", "user:password@tcp(host:port)/database"},
		"no database":     {mariaDB.DSN("x", mariaDB.Password(), ""), "names no database"},
		"unreadable":      {"x:" + mariaDB.Password() + "@tcp(127.0.0.1:1/db?p=%zz", "must have the form"},
		"unreadable port": {"x:" + mariaDB.Password() + "@tcp(127.0.0.1:none)/db", ""},
		"bad option":      {dsn + "?parseTime=" + mariaDB.Password(), "must have the form"},
		"many statements": {dsn + "?multiStatements=true", "multiStatements"},
		"wrong password":  {strings.Replace(dsn, mariaDB.Password(), "x"+mariaDB.Password(), 1), "1045"},
		"no PROCESS":      {user(name+"a", all), "GRANT PROCESS"},
		"no CREATE":       {user(name+"b", "PROCESS ON *.*", "SELECT, INSERT ON "+name+".*"), "GRANT CREATE"},
		"no such schema":  {mariaDB.DSN(name, mariaDB.Password(), "nowhere"), "104"},
		"nobody there":    {"x:" + mariaDB.Password() + "@tcp(127.0.0.1:1)/db", "refused"},
	}
	for what, test := range tests {
		var log strings.Builder
		m, err := Open(t.Context(), Options{Name: "p", DSN: test.dsn, Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace})})
		if err == nil {
			t.Errorf("%s: opened", what)
			_ = m.Close()
			continue
		}
		if text := err.Error(); !strings.Contains(text, test.says) || strings.Contains(text+log.String(), mariaDB.Password()) {
			t.Errorf("%s: %v\n%s", what, err, log.String())
		}
	}
	set := func(variable, bad, good, says string) {
		t.Helper()
		mustExec(t, db, "SET GLOBAL "+variable+" = "+bad)
		defer mustExec(t, db, "SET GLOBAL "+variable+" = "+good)
		if _, err := Open(t.Context(), Options{Name: "p", DSN: dsn}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s = %s: %v", variable, bad, err)
		}
	}
	set("innodb_flush_log_at_trx_commit", "2", "1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
	set("read_only", "ON", "OFF", "the DSN of the primary")
	set("max_connections", "40", "300", "raise it")
	for version, supported := range map[string]bool{
		"10.4.32-MariaDB": false, "5.5.5-10.3.1-MariaDB-log": false, "10.5.0-MariaDB": true, "10.11.19-MariaDB-0+deb12u1": true, "11.4.2-MariaDB": true,
		"5.7.6": false, "5.6.51-log": false, "5.7.7": true, "8.0.36": true, "8.4.0-commercial": true,
	} {
		if s, err := readVersion(version); err != nil || (s.supported() == nil) != supported {
			t.Errorf("version %s: %v, %v; want supported %v", version, s.supported(), err, supported)
		}
	}
	if _, err := readVersion("ten"); err == nil {
		t.Error("an unreadable version was read")
	}
}

// A branch waits for a lock at most a quarter of its budget (P12), and for
// nothing else is it cut short.
func TestLockWaitIsAQuarterOfTheBudget(t *testing.T) {
	dsn, db := newDatabase(t)
	mustExec(t, db, "INSERT INTO counts VALUES ('k', 0)")
	m := open(t, Options{Name: "p", DSN: dsn})
	first := sqlWork("t", 1, plain("UPDATE counts SET n = n + 1 WHERE k = 'k'"))
	mustPrepare(t, m, first)
	prepare := func(w participant.Work, budget time.Duration) (participant.Vote, time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), budget)
		defer cancel()
		began := time.Now()
		v, err := m.Prepare(ctx, w)
		if err != nil {
			t.Errorf("Prepare: %v", err)
		}
		return v, time.Since(began)
	}
	const budget = 2 * time.Second
	v, took := prepare(sqlWork("u", 2, plain("UPDATE counts SET n = n + 1 WHERE k = 'k'")), budget)
	if v.Code != pb.Reason_CONFLICT || !strings.Contains(v.Message, "a quarter of the budget") || took < budget/4 || took > budget/2+budget/4 {
		t.Errorf("voted %v %q after %s", v.Code, v.Message, took)
	}
	if v, took := prepare(sqlWork("w", 3, plain("SELECT SLEEP(0.8)")), budget); v.Kind != pb.Vote_VOTE_PREPARED || took < 800*time.Millisecond {
		t.Errorf("slow work without a lock voted %v %q after %s", v.Code, v.Message, took)
	}
	mustCommit(t, m, first)
}
