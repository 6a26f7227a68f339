package participanttest

import "testing"

// Check is one demand of the suite.
type Check struct {
	Name string
	// crashes: it needs Harness.CrashAtWrite.
	crashes bool
	// once: it needs a participant.OnePhase.
	once bool
	run  func(s *subject)
}

// Run holds the resource managers that mk makes against every check, called
// directly and over gRPC.
func Run(t *testing.T, mk Make) {
	for _, mode := range []struct {
		name string
		wire bool
	}{{"direct", false}, {"wire", true}} {
		t.Run(mode.name, func(t *testing.T) {
			for _, c := range Checks() {
				t.Run(c.Name, func(t *testing.T) { c.Run(t, mk, mode.wire) })
			}
		})
	}
}

// Run makes a harness and holds it against the check. t may be a recorder.
func (c Check) Run(t testing.TB, mk Make, wire bool) {
	t.Helper()
	s := newSubject(t, mk, wire)
	if c.crashes && s.h.CrashAtWrite == nil {
		t.Skip("the harness has no CrashAtWrite: crashes around single writes are not checked")
	}
	if c.once && !s.canOnce() {
		t.Skip("the resource manager does not commit in one phase, which is optional")
	}
	c.run(s)
}

// Checks are all checks, in the order in which they are best read.
func Checks() []Check {
	return []Check{
		{Name: "prepare/no effect before commit", run: noEffectBeforeCommit},
		{Name: "prepare/twice", run: prepareTwice},
		{Name: "prepare/condition refused", run: conditionRefused},
		{Name: "prepare/keeps others off", run: keepsOthersOff},
		{Name: "prepare/held branches survive a restart", run: heldSurvive},
		{Name: "commit/twice", run: commitTwice},
		{Name: "commit/unknown is a hazard", run: commitUnknown},
		{Name: "commit/of a rolled back branch", run: commitOfRolledBack},
		{Name: "commit/late prepare runs nothing", run: latePrepareAfterCommit},
		{Name: "rollback/twice", run: rollbackTwice},
		{Name: "rollback/of a committed branch", run: rollbackOfCommitted},
		{Name: "rollback/late prepare runs nothing", run: latePrepareAfterRollback},
		{Name: "rollback/tombstone outlives a crash", run: tombstone},
		{Name: "attempt/older is refused", run: olderAttempt},
		{Name: "attempt/newer takes over", run: takeOver},
		{Name: "attempt/newer with other content", run: mismatch},
		{Name: "attempt/other content", run: otherContent},
		{Name: "attempt/second life", run: secondLife},
		{Name: "once/twice", once: true, run: onceTwice},
		{Name: "once/refused is final", once: true, run: onceRefused},
		{Name: "once/after a rollback", once: true, run: onceAfterRollback},
		{Name: "once/waits for what is held", once: true, run: onceHeld},
		{Name: "once/other content", once: true, run: onceOther},
		{Name: "once/forgotten", once: true, run: onceForgotten},
		{Name: "once/against a rollback", once: true, run: onceAgainstRollback},
		{Name: "fence/outlives a crash", run: fenceOutlives},
		{Name: "forget/only below the floor and named", run: forgetOnly},
		{Name: "forget/the floor outlives a crash", run: floorOutlives},
		{Name: "ids/hostile", run: hostileIDs},
		{Name: "ids/side by side", run: sideBySide},
		{Name: "crash/around every write", crashes: true, run: crashAroundWrites},
		{Name: "crash/nothing is answered before it is durable", crashes: true, run: nothingBeforeDurable},
		{Name: "schedule/random", run: randomSchedule},
	}
}
