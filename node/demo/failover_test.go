package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestFailoverAccount(t *testing.T) {
	kill := time.Unix(1000, 0)
	at := func(ms int) time.Time { return kill.Add(time.Duration(ms) * time.Millisecond) }
	told := func(id string, began, ended int, outcome pb.Outcome, code pb.Reason_Code, unknown bool) entry {
		return entry{booking: booking{ID: id}, began: at(began), ended: at(ended), outcome: outcome,
			reason: &pb.Reason{Code: code}, unknown: unknown, node: "n2"}
	}
	entries := []entry{
		told("early", -50, -40, pb.Outcome_COMMIT, 0, false),
		told("last", -30, -4, pb.Outcome_COMMIT, 0, false),
		told("refused before", -20, -2, pb.Outcome_ABORT, pb.Reason_CONDITION, false),
		told("under way", -3, 420, pb.Outcome_COMMIT, 0, false),
		told("unknown", -2, 430, pb.Outcome_COMMIT, 0, true),
		told("sold out", -1, 440, pb.Outcome_ABORT, pb.Reason_CONDITION, true),
		told("second", 2, 500, pb.Outcome_COMMIT, 0, false),
		told("first", 5, 450, pb.Outcome_COMMIT, 0, false),
		told("timeout", 6, 700, pb.Outcome_ABORT, pb.Reason_TIMEOUT, false),
		told("never", 7, 800, pb.Outcome_OUTCOME_UNSPECIFIED, 0, true),
		told("after the next kill", 900, 2500, pb.Outcome_ABORT, pb.Reason_TIMEOUT, true),
	}
	f := &Failover{at: kill}
	f.account(entries, at(2000))
	if f.LastCommitBooking != "last" || *f.LastCommit != -4 || f.FirstCommitBooking != "first" || *f.FirstCommit != 450 {
		t.Errorf("last %s, first %s", f.LastCommitBooking, f.FirstCommitBooking)
	}
	if f.UnderWay != 3 || f.UnderWayCommitted != 2 || f.UnderWayRefused != 1 {
		t.Errorf("under way: %+v", f)
	}
	if f.Aborted != 1 || f.Unknown != 3 || f.UnknownCommit != 1 || f.UnknownAbort != 1 || f.UnknownForEver != 1 {
		t.Errorf("counts: %+v", f)
	}
}

const nodeMetrics = `# HELP concordat_leader_established_timestamp_seconds When.
concordat_leader_established_timestamp_seconds 1.000000000425e+09
concordat_resumed_transactions 12
concordat_resumed_transactions_open 0
concordat_resumed_settled_seconds 0.031
concordat_transactions_total{outcome="ABORT",reason="CONDITION"} 5
concordat_transactions_total{outcome="ABORT",reason="TIMEOUT"} 2
`

func TestReadLeader(t *testing.T) {
	s, err := parseSamples(strings.NewReader(nodeMetrics))
	if err != nil {
		t.Fatal(err)
	}
	f := &Failover{at: time.Unix(1_000_000_000, 0), Elected: millis(430 * time.Millisecond)}
	if err := f.readLeader(s); err != nil {
		t.Fatal(err)
	}
	if f.Ready == nil || *f.Ready < 424.9 || *f.Ready > 425.1 {
		t.Fatalf("not ready 425 ms after the kill: %+v", f)
	}
	if f.Resumed != 12 || f.Open != 0 || f.Settled == nil || *f.Settled != 31 || *f.Elected > *f.Ready {
		t.Errorf("got %+v", f)
	}
	// A time stamp of before the kill is an earlier leadership's.
	late := &Failover{at: time.Unix(2_000_000_000, 0)}
	if err := late.readLeader(s); err != nil || late.Ready != nil || late.Resumed != 0 {
		t.Errorf("got %+v, %v", late, err)
	}
	if err := late.readLeader(nil); err == nil || !strings.Contains(err.Error(), "concordat_leader_established") {
		t.Errorf("a node without metrics: %v", err)
	}
	if n := s.sum("concordat_transactions_total", func(l string) bool { return strings.Contains(l, "TIMEOUT") }); n != 2 {
		t.Errorf("sum %v", n)
	}
	for _, bad := range []string{"nonsense", "a x"} {
		if _, err := parseSamples(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken for a sample", bad)
		}
	}
}

func TestScreen(t *testing.T) {
	if got := grouped(-1234567) + " " + grouped(999) + " " + grouped(1000); got != "-1,234,567 999 1,000" {
		t.Errorf("got %s", got)
	}
	for _, colour := range []bool{false, true} {
		var b strings.Builder
		s := newScreen(&b, colour)
		s.alarm("KILL", "n%d", 1)
		s.pace(pace{commits: 10, p50: time.Millisecond, p99: 1200 * time.Millisecond}, standing{})
		s.failover(&Failover{Killed: "n1", FirstCommit: millis(time.Second)})
		if strings.Contains(b.String(), "\x1b[") != colour {
			t.Errorf("colour %v: %q", colour, b.String())
		}
		if !strings.Contains(b.String(), "1000 ms") || !strings.Contains(b.String(), "1.2 s") {
			t.Errorf("got %s", b.String())
		}
	}
}

func TestConfigCheck(t *testing.T) {
	good := Config{Clients: 1, Duration: 4 * time.Second, Kills: 1}
	for name, tc := range map[string]struct {
		change func(*Config)
		field  string
	}{
		"good":          {func(*Config) {}, ""},
		"no kill":       {func(c *Config) { c.Kills = 0 }, ""},
		"no client":     {func(c *Config) { c.Clients = 0 }, "--clients"},
		"a crowd":       {func(c *Config) { c.Clients = 257 }, "--clients"},
		"no time":       {func(c *Config) { c.Duration = 0 }, "--duration"},
		"all day":       {func(c *Config) { c.Duration = 24 * time.Hour }, "--duration"},
		"kills undone":  {func(c *Config) { c.Kills = -1 }, "--kills"},
		"kill on kill":  {func(c *Config) { c.Kills = 2 }, "--kills"},
		"a massacre":    {func(c *Config) { c.Kills = 1 << 62 }, "--kills"},
		"kills go over": {func(c *Config) { c.Kills = int(^uint(0) >> 1) }, "--kills"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			tc.change(&c)
			err := c.Check()
			if (err == nil) != (tc.field == "") || err != nil && !strings.HasPrefix(err.Error(), tc.field) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Aborts that follow from a participant's absence count for nobody, neither for
// the failover before it nor in the totals; others do.
func TestAbsenceExcuses(t *testing.T) {
	killed := time.Now()
	h := &hand{strikes: []*Strike{{Role: KillParticipant, at: killed, back: killed.Add(5 * time.Second)}, {Role: KillFollower, at: killed}}}
	after := func(began, ended time.Duration, code pb.Reason_Code) entry {
		return entry{began: killed.Add(began), ended: killed.Add(ended), outcome: pb.Outcome_ABORT, reason: &pb.Reason{Code: code}}
	}
	for name, tc := range map[string]struct {
		entry
		want Totals
	}{
		"while it was out":       {after(time.Second, 6*time.Second, pb.Reason_TIMEOUT), Totals{Excused: 1}},
		"under way at the kill":  {after(-time.Second, time.Second, pb.Reason_TIMEOUT), Totals{Excused: 1}},
		"answered before":        {after(-2*time.Second, -time.Second, pb.Reason_TIMEOUT), Totals{Other: 1}},
		"long after":             {after(20*time.Second, 21*time.Second, pb.Reason_TIMEOUT), Totals{Other: 1}},
		"for another reason":     {after(time.Second, 2*time.Second, pb.Reason_REQUESTED), Totals{Other: 1}},
		"a condition of its own": {after(time.Second, 2*time.Second, pb.Reason_CONDITION), Totals{Refused: 1}},
	} {
		entries, f := []entry{tc.entry}, Failover{at: killed.Add(-3 * time.Second)}
		var got Totals
		h.excuse(entries)
		got.add(entries)
		if f.account(entries, killed.Add(time.Minute)); got != tc.want || f.Aborted != tc.want.Other {
			t.Errorf("%s: got %+v, %d for the failover, want %+v", name, got, f.Aborted, tc.want)
		}
	}
}
