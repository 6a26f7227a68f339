package promela

import (
	"regexp"
	"slices"
	"strings"
)

// check is one search and what must come of it.
type check struct {
	search
	want want
	// full: only with -full, for it takes long.
	full bool
	// story is what breaks without the rule that is switched off; the trail shows it.
	story string
}

// want is what a search must come to.
type want string

const (
	holds    want = "holds"
	breaks   want = "breaks"   // an assertion fails
	deadlock want = "deadlock" // a state without a way out that is no end
	cycle    want = "cycle"    // a claim fails: a run without end
	reaches  want = "reaches"  // a situation that shall be possible is
)

// name is that of the subtest, and of the trail in counterexamples.md.
func (c check) name() string {
	if bug := c.bug(); bug != "" && c.want != holds {
		if c.claim != "" {
			bug += "," + c.claim
		}
		return c.model + "/" + bug
	}
	parts := []string{string(c.want)}
	if c.claim != "" {
		parts = append(parts, c.claim)
	}
	for _, flag := range c.flags {
		parts = append(parts, strings.TrimPrefix(flag, "-D"))
	}
	return c.model + "/" + strings.Join(parts, ",")
}

// bug is the rule switch of the check, or "".
func (c check) bug() string {
	for _, flag := range c.flags {
		if bug, ok := strings.CutPrefix(flag, "-DBUG_"); ok {
			return bug
		}
	}
	return ""
}

var ruleOf = regexp.MustCompile(`^P\d+`)

func defines(flags string) []string {
	list := strings.Fields(flags)
	for i := range list {
		list[i] = "-D" + list[i]
	}
	return list
}

func must(model, flags string) check {
	return check{search: search{model: model, flags: defines(flags)}, want: holds}
}

func claim(model, claim, flags string) check {
	return check{search: search{model: model, claim: claim, flags: defines(flags)}, want: holds}
}

func reach(model, flags string) check {
	return check{search: search{model: model, flags: defines(flags), shortest: true}, want: reaches}
}

// without is a rule switched off: the first flag is its switch.
func without(model, flags, story string) check {
	return check{search: search{model: model, flags: defines("BUG_" + flags), shortest: true}, want: breaks, story: story}
}

func (c check) claims(claim string) check { c.claim, c.want = claim, cycle; return c }

func (c check) stuck() check { c.want = deadlock; return c }

func long(list ...check) []check {
	for i := range list {
		list[i].full, list[i].large = true, true
	}
	return list
}

// checks is everything, the quick ones first.
var checks = slices.Concat(correct, broken, long(
	must("twophase", ""), must("twophase", "OVERLAP"), must("twophase", "NOBEGIN"),
	reach("twophase", "REACH"), reach("twophase", "REACH OVERLAP"), reach("twophase", "REACH NOBEGIN"),
	must("twophase", "BUG_P2_GUESSED_ABORT"), // the plain order does not need what the overlapped one does
	claim("twophase", "doubt", "MAXELEC=1 MAXCRASH=1"), claim("twophase", "answer", "MAXELEC=1 MAXCRASH=1"),
	claim("twophase", "acked", "MAXELEC=1 MAXCRASH=1"),
	claim("twophase", "doubt", "OVERLAP MAXELEC=1 MAXCRASH=1"), claim("twophase", "answer", "OVERLAP MAXELEC=1 MAXCRASH=1"),
	claim("twophase", "acked", "OVERLAP MAXELEC=1 MAXCRASH=1"),
	claim("twophase", "doubt", ""), claim("twophase", "answer", ""), claim("twophase", "acked", ""),
	must("attempts", "MAXATT=2 MAXLATE=0"), must("attempts", "MAXATT=2 MAXELEC=1"), must("attempts", "MAXATT=3 MAXELEC=1 MAXLATE=0"),
	must("attempts", "CALM MAXATT=3"),
	must("attempts", "LIVE MAXATT=2 MAXLATE=0"), must("attempts", "LIVE MAXATT=2 MAXELEC=1"), must("attempts", "LIVE CALM MAXATT=3 MAXLATE=0"),
	must("floor", "MAXATT=2"), must("floor", "MAXATT=3"), must("floor", "TOLD MAXATT=2"), must("floor", "TOLD LATE MAXATT=2"), must("floor", "TOLD MAXATT=3"),
	must("readonly", ""), claim("readonly", "finishes", "LIVE"),
	must("locks", "TAKEOVER"), claim("locks", "through", "LIVE"),
))

// correct are the models as the rules stand.
var correct = []check{
	must("twophase", "MAXELEC=1 MAXCRASH=1 MAXLOSS=0"),
	must("twophase", "OVERLAP MAXELEC=1 MAXCRASH=1 MAXLOSS=0"),
	reach("twophase", "REACH MAXELEC=1 MAXCRASH=1 MAXLOSS=0"),
	claim("twophase", "doubt", "MAXELEC=1 MAXCRASH=0 MAXREP=0 MAXLOSS=0"),
	claim("twophase", "answer", "MAXELEC=1 MAXCRASH=0 MAXREP=0 MAXLOSS=0"),
	claim("twophase", "acked", "MAXELEC=1 MAXCRASH=0 MAXREP=0 MAXLOSS=0"),
	must("attempts", "MAXATT=2 MAXELEC=1 MAXLATE=0"),
	must("attempts", "CALM MAXATT=2 MAXELEC=1"),
	must("attempts", "LIVE MAXATT=2 MAXELEC=1 MAXCRASH=0 MAXLATE=0"),
	reach("attempts", "REACH_TAKEOVER MAXATT=2 MAXELEC=1 MAXCRASH=0 MAXLATE=0"),
	reach("attempts", "REACH_LIFE2 MAXATT=2 MAXELEC=0 MAXCRASH=0 MAXLATE=0"),
	must("floor", "MAXATT=2 IDS=1"),
	must("floor", "TOLD MAXATT=2 IDS=1"),
	must("floor", "TOLD LATE MAXATT=2 IDS=1 MAXCRASH=0"),
	reach("floor", "TOLD REACH_TOLD MAXATT=2 IDS=1 MAXCRASH=0"),
	reach("floor", "REACH MAXATT=2 IDS=1"),
	claim("floor", "forgets", "LIVE MAXATT=2 MAXCRASH=0"),
	must("readonly", "MAXELEC=1 MAXREP=1"),
	reach("readonly", "REACH MAXELEC=1 MAXREP=1"),
	reach("readonly", "LATE MAXELEC=1 MAXREP=1"), // the limit that the header names
	claim("readonly", "finishes", "LIVE MAXELEC=1 MAXREP=1"),
	must("locks", ""),
	must("locks", "TAKEOVER MAXCRASH=0"),
	reach("locks", "REACH"),
	claim("locks", "through", "LIVE MAXCRASH=0"),
	must("generations", ""),
	must("generations", "OLDSTOPS"),
	reach("generations", "REACH"),
	must("incarnation", ""),
	reach("incarnation", "REACH"),
	claim("incarnation", "goeson", "NOOPERATOR"),
	must("onephase", ""),
	reach("onephase", "REACH"),
	claim("onephase", "decided", ""),
}

const (
	alone    = " MAXELEC=0 MAXCRASH=0 MAXREP=0 MAXLOSS=0"
	failover = " MAXELEC=1 MAXCRASH=0 MAXREP=0 MAXLOSS=0"
	calm     = " MAXATT=2 MAXELEC=1 MAXCRASH=0 MAXLATE=0"
)

// broken are the rules, each switched off; the first of a rule is the one that
// docs/protocol.md tells.
var broken = []check{
	without("twophase", "P1_EARLY_SEND"+alone,
		"The leader sends Commit when it proposes COMMIT. An ABORT (the budget ended) lies before it in the log and is applied first: "+
			"the client is told ABORT, and a participant commits."),
	without("twophase", "P1_EARLY_REPLY"+alone,
		"The leader tells the client COMMIT when it proposes it. An ABORT lies before it in the log: the participants roll back."),

	without("attempts", "P2_DECIDE_OTHER MAXATT=2 MAXELEC=1 MAXCRASH=0",
		"A late Decide of a worker that was overtaken is taken for the record that is PREPARING now, which is of another attempt: "+
			"COMMIT is said of an attempt that its participants have not prepared."),
	without("twophase", "P2_GUESSED_ABORT OVERLAP"+failover,
		"In the overlapped order, without attempts: a participant prepared before Begin was in the log asks a new leader, which knows nothing "+
			"and says ABORT. The client tries again, the same prepared branch votes yes, and COMMIT is decided."),

	without("attempts", "P3_ANSWER_BY_ID"+calm,
		"An inquiry about an attempt that never began is answered with the COMMIT of another attempt of the id: a participant is told to commit what it does not hold."),
	without("attempts", "P3_SETTLE_BY_ID"+calm,
		"A participant takes the ABORT of another attempt, which never began, for the branch that it holds: the Commit of that one finds nothing."),
	without("attempts", "P3_LATE_BEGIN MAXATT=2 MAXELEC=1 MAXCRASH=0",
		"A Begin of an earlier term is applied in a later one, after the new leader said that the attempt can never begin."),
	without("attempts", "P3_BEGIN_TWICE MAXATT=2 MAXELEC=0 MAXCRASH=0",
		"A repeated Begin of an attempt that was finished and forgotten applies again: the id's second life is answered with the attempt of the first."),
	without("floor", "P3_TWO_PENDING MAXATT=2 IDS=1",
		"A leader that was deposed makes a second attempt of an id it has already begun. It takes over the prepared branch of the first, "+
			"never begins and is aborted; the first is committed and finds no branch."),

	without("twophase", "P4_LAST_WINS"+alone,
		"COMMIT is applied after ABORT and changes the outcome: the client is told COMMIT, participants that heard the first roll back."),
	without("twophase", "P4_ABORT_UNLOGGED"+failover,
		"A new leader aborts what it finds PREPARING without logging it: one participant is sent Rollback, then all vote yes and COMMIT is decided."),

	without("twophase", "P5_VOTE_BEFORE_SYNC MAXELEC=0 MAXCRASH=1 MAXREP=0 MAXLOSS=0",
		"A participant votes before its branch is durable and crashes: the commit finds nothing there."),
	without("twophase", "P5_DECIDES_ALONE"+alone,
		"A participant that is tired of waiting rolls its prepared branch back, while COMMIT is decided with its vote."),
	without("attempts", "P5_ACK_BEFORE_SYNC"+calm,
		"A participant acknowledges a Commit before it is durable: the transaction is forgotten while a branch is still prepared."),

	without("twophase", "P6_COMMIT_NOT_REMEMBERED MAXELEC=0 MAXCRASH=0 MAXREP=1 MAXLOSS=0",
		"A finished branch is not remembered: a second copy of the Prepare runs the work again, and the second copy of the Commit finds another branch."),
	without("twophase", "P6_VOTE_COUNTED_TWICE"+alone,
		"The same vote, received twice, is counted as two: COMMIT is decided with a participant that has prepared nothing."),
	without("twophase", "P6_TOMBSTONE_DROPPED"+alone,
		"The trace of an abort is dropped while messages of it are under way: a late Rollback hits the next life of the id, which commits elsewhere."),
	without("attempts", "P6_OLD_PREPARE"+calm,
		"A late Prepare of an attempt that is over here is done again: its branch is prepared after the record was forgotten."),
	without("attempts", "P6_ROLLBACK_NOT_REMEMBERED"+calm,
		"A Rollback leaves no trace: a late Prepare of that attempt is done again, and nobody knows it any more."),
	without("attempts", "P6_TAKEOVER_VOLATILE MAXATT=2 MAXELEC=1 MAXLATE=0",
		"A participant votes for the attempt that took over, crashes, and holds the branch for the older attempt again: the Commit of the newer finds nothing."),
	without("attempts", "P6_NO_TAKEOVER CALM"+calm,
		"After a failover the branch of an attempt that never began is in the way of the new one, which is aborted."),
	without("floor", "P6_CHECKED_ON_ARRIVAL MAXATT=2 IDS=1 MAXELEC=0 MAXCRASH=0",
		"What is remembered is looked up when a Prepare arrives and not in the write: the copy that was slow is prepared after the other was committed."),

	without("attempts", "P7_PENDING_IS_ABORT"+calm,
		"A leader answers ABORT about an attempt whose Begin is under way in its own term. Then that Begin is applied, and COMMIT decided."),
	without("attempts", "P7_BEFORE_BARRIER"+calm,
		"A new leader answers before its barrier: the Begin lies in its log unapplied, so it says ABORT of an attempt that is committed later."),
	without("attempts", "P7_HIGHER_TERM"+calm,
		"A deposed leader answers ABORT about an attempt of a term above its own, which the new leader commits."),
	without("attempts", "P7_STALE_CLIENT"+calm,
		"A deposed leader answers a Submit from its copy: the client of the second life is told the outcome of the first."),
	without("twophase", "P7_STALE_READ"+failover,
		"A deposed leader answers an inquiry from its copy, which has no decision: ABORT, while COMMIT is decided elsewhere."),
	without("twophase", "P7_INQUIRY_IS_LOGGED"+alone,
		"An inquiry about an unknown id writes an abort. One that comes after Forget makes a committed transaction an aborted one."),
	without("attempts", "P7_NO_INQUIRY LIVE MAXATT=1 MAXELEC=1 MAXCRASH=0 MAXLATE=0",
		"Nobody asks: the Begin of a prepared branch was lost with its leader, no message about it is ever sent, it stays prepared."),
	without("twophase", "P7_NO_INQUIRY OVERLAP"+failover, "The same, as a claim: a branch stays in doubt.").claims("doubt"),

	without("floor", "P8_DROP_WITHOUT_FLOOR MAXATT=2 IDS=1 MAXELEC=0 MAXCRASH=0",
		"A participant forgets a finished branch without a floor: a late Prepare of it is done again, and its work committed twice."),
	without("floor", "P8_FLOOR_VOLATILE MAXATT=2 IDS=1 MAXELEC=0",
		"The floor is not durable in the write that drops: after a crash a late Prepare of a forgotten branch is done again."),
	without("floor", "P8_DROP_UNFINISHED MAXATT=2 IDS=1 MAXELEC=0 MAXCRASH=0",
		"What is below the floor is dropped although the cluster has not called it finished: the Commit that is still owed finds nothing."),
	without("floor", "P8_TOLD_UNFINISHED TOLD MAXATT=2 IDS=1 MAXELEC=0 MAXCRASH=0",
		"What the leader says in passing to be finished is decided only: its participant drops it, and the Commit that is still owed finds nothing."),
	without("floor", "P8_FINISH_EARLY MAXATT=2 IDS=1 MAXELEC=0 MAXCRASH=0",
		"Finish is logged before every branch has acknowledged, and the record is forgotten: a prepared branch can never learn its outcome."),
	without("floor", "P8_FLOOR_OVER_PREPARING MAXATT=2 IDS=1 MAXCRASH=0",
		"The floor of a leader passes a transaction that is PREPARING: its participants would refuse to prepare it."),
	without("floor", "P8_FLOOR_BEFORE_BARRIER MAXATT=2 IDS=1 MAXCRASH=0",
		"A new leader states a floor before its barrier: the Begin of an attempt below it is applied afterwards."),
	without("floor", "P8_FLOOR_STUCK LIVE MAXATT=2 MAXCRASH=0",
		"A Begin that was lost holds the floor down for ever: nothing is forgotten any more.").claims("forgets"),
	without("twophase", "P8_FORGET_EARLY BUG_P7_INQUIRY_IS_LOGGED"+alone,
		"Forgotten after the first acknowledgement: the inquiry of the other participant makes the outcome another."),
	without("twophase", "P8_FORGET_EARLY MAXELEC=0 MAXCRASH=0 MAXREP=0 MAXLOSS=1",
		"Forgotten after the first acknowledgement, with a message lost: the other participant never hears the outcome.").claims("acked"),

	without("readonly", "P9_VOTE_OF_OLD_TERM MAXELEC=1 MAXREP=0",
		"A Prepare broke when its leader was lost and its vote ABORTED comes late: the new leader counts it and aborts a transaction that all would vote for."),
	without("readonly", "P9_VOTES_NOT_IN_DECIDE MAXELEC=1 MAXREP=0",
		"Decide does not carry the votes: a new leader sends Commit to a participant that voted READ_ONLY and holds nothing, and gets an alarm for it."),
	without("readonly", "P9_READ_ONLY_TOLD_COMMIT MAXELEC=0 MAXREP=1",
		"A late Prepare leaves a branch at a participant whose counted vote was READ_ONLY; its inquiry is answered COMMIT, and work that the transaction does not have is done."),
	without("readonly", "P9_READ_ONLY_OWES LIVE MAXELEC=0 MAXREP=0",
		"A READ_ONLY branch owes an acknowledgement that it will never send: the transaction is never finished.").claims("finishes"),
	without("readonly", "P9_NO_RESUME LIVE MAXELEC=1 MAXREP=0",
		"A new leader does not take up what it finds PREPARING: it stays so.").claims("finishes"),
	without("twophase", "P9_NO_RESUME"+failover,
		"The same, seen by the client: it never gets an answer.").claims("answer"),

	without("twophase", "P10_ERROR_IS_ABORT"+failover,
		"A deposed leader takes the error of its proposal for an abort and tells the client so, while the entry is committed."),
	without("attempts", "P10_LATE_SUBMIT"+calm,
		"A Submit that was delayed until its id was forgotten begins it again: the client was told ABORT, and then its work is committed."),

	without("locks", "P12_WAITS_FOR_ANY MAXCRASH=0",
		"Everybody waits, the younger for the older too: two transactions hold a key each and wait for the other's.").stuck(),
	without("locks", "P12_NOT_CHECKED_AGAIN MAXCRASH=0",
		"Whether a transaction may wait is looked at on arrival only. The holder ends, the older of two waiters is served, and the younger goes on waiting for it.").stuck(),
	without("locks", "P12_WOUNDS MAXCRASH=0",
		"An older transaction takes the lock from a prepared branch: a transaction that is told to commit does not hold its key any more."),
	without("locks", "P12_OLD_PREPARE_WAITS_ON TAKEOVER MAXCRASH=0",
		"After a failover a transaction has two ages: the Prepare of its older attempt still waits for a lock, its newer attempt holds another. It waits for what waits for it.").stuck(),
	without("locks", "P12_AGE_NOT_INHERITED NT=2 LIVE MAXCRASH=0",
		"A retry is as young as if it were new: others that begin after it pass it for ever.").claims("through"),

	without("generations", "P14_JUDGES_OLDER_GENERATION OLDSTOPS",
		"A cluster restored from a backup answers about an attempt that it does not have: never begun, ABORT. The other participant had committed it before the restore."),
	without("generations", "P14_RESUMES_OLDER_GENERATION OLDSTOPS",
		"It drives a transaction that was PREPARING in the backup on to ABORT; in the log that was lost it was committed."),
	without("generations", "P14_ATTEMPT_WITHOUT_GENERATION OLDSTOPS",
		"Attempts carry no generation: the rollback of the client's second try hits the prepared branch of the first, which the other participant committed."),
	without("generations", "P14_TAKES_OVER_OLDER_GENERATION OLDSTOPS",
		"The client's second try takes over the branch of the older generation and is aborted; the other participant had committed the first."),
	without("generations", "P14_DONE_AGAIN OLDSTOPS",
		"What a participant committed in an older generation it does again when the id is submitted to the restored cluster."),
	without("incarnation", "P14_NO_INCARNATION NOOPERATOR",
		"A copy of older data under the same name votes: a transaction commits on data in which an acknowledged one is missing."),
	without("incarnation", "P14_RESTORED_UNDER_OLD_NAME NOOPERATOR",
		"Restored data keep their incarnation: the same."),
	without("incarnation", "P14_ANNOUNCE_REPLACES NOOPERATOR",
		"Data that announce themselves replace the registered ones without an operator: the same."),
	without("incarnation", "P14_PENDING_STOPS NOOPERATOR",
		"Data that turn up close the name until an operator comes: healthy data are out of service.").claims("goeson"),

	without("onephase", "P17_GIVES_UP_ALONE MAXELEC=0 MAXCRASH=0",
		"The budget ends and the leader logs ABORT without asking: the participant had committed."),
	without("onephase", "P17_CALL_BEFORE_BEGIN MAXELEC=1 MAXCRASH=0",
		"The call leaves before Begin is applied, and the Begin is lost: the client aborts an id that nobody knows, after the participant committed it."),
	without("onephase", "P17_NO_ANSWER_IS_ABORT MAXELEC=0 MAXCRASH=0",
		"A lost answer is told to the client as ABORT: the participant had committed."),
	without("onephase", "P17_NO_MARKER MAXELEC=0 MAXCRASH=0",
		"The work leaves no marker: the repeated call does it twice."),
	without("onephase", "P17_ABORTED_NOT_KEPT MAXELEC=0 MAXCRASH=0",
		"ABORTED is said without a tombstone: a second copy of the call commits, after ABORT was logged."),
	without("onephase", "P17_ROLLBACK_LEAVES_NOTHING MAXELEC=0 MAXCRASH=0",
		"Rollback finds nothing and leaves nothing: the call that was under way commits."),
	without("onephase", "P17_CHECKED_ON_ARRIVAL MAXELEC=0 MAXCRASH=0",
		"The tombstone is looked for when the call arrives and not in the write that commits."),
	without("onephase", "P17_BEGIN_DOES_NOT_SAY MAXELEC=1 MAXCRASH=0",
		"Begin does not say that it is one phase: a new leader sends an ordinary Prepare, which finds a finished branch and is voted down."),
	without("onephase", "P17_NOT_REPEATED MAXELEC=1 MAXCRASH=0",
		"A new leader does not repeat the call: the transaction is never decided.").claims("decided"),
}
