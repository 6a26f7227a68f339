package rpc

import (
	"context"
	"testing"
)

// TestLastWord: of the errors of one call, in this order, the one to tell.
func TestLastWord(t *testing.T) {
	const dead, lost, leaderless, busy, cut, refused = ReasonUnreachable, ReasonConnectionLost, ReasonNoLeader,
		ReasonOverloaded, ReasonDeadline, ReasonInvalidArgument
	for name, tc := range map[string]struct {
		errors []ErrorReason
		want   ErrorReason
	}{
		"one":                             {[]ErrorReason{busy}, busy},
		"the newest":                      {[]ErrorReason{leaderless, busy}, busy},
		"the dead say nothing":            {[]ErrorReason{leaderless, dead, dead}, leaderless},
		"all are dead now":                {[]ErrorReason{leaderless, dead, dead, dead}, dead},
		"one lives":                       {[]ErrorReason{dead, dead, leaderless, dead, dead}, leaderless},
		"all dead, and one is back":       {[]ErrorReason{dead, dead, dead, leaderless, dead}, leaderless},
		"what broke off may have arrived": {[]ErrorReason{leaderless, lost}, lost},
		"cut short":                       {[]ErrorReason{leaderless, cut}, leaderless},
		"cut short among the dead":        {[]ErrorReason{leaderless, dead, cut}, leaderless},
		"nothing but cut short":           {[]ErrorReason{cut}, cut},
		"refused for good":                {[]ErrorReason{leaderless, refused}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			last := lastWord{nodes: 3}
			var told *Error
			for _, reason := range tc.errors {
				told = last.after(context.Background(), FromError(Errorf(reason, "%s", reason)))
			}
			if told.Reason != tc.want {
				t.Errorf("told is %s, want %s", told.Reason, tc.want)
			}
		})
	}
	ended, cancel := context.WithCancel(context.Background())
	last := lastWord{nodes: 1}
	last.after(ended, FromError(Errorf(leaderless, "no leader")))
	cancel()
	if told := last.after(ended, FromError(Errorf(dead, "cut"))); told.Reason != leaderless {
		t.Errorf("after the end of the call told is %s", told.Reason)
	}
}
