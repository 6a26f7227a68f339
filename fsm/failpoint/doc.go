// Package failpoint names the durable steps and the messages of the protocol,
// so that a test can end the process exactly there. It costs nothing in a
// normal build: Hit is empty there, and is inlined away.
//
// Built with the tag "failpoints", the environment variable CONCORDAT_FAILPOINT
// holds NAME or NAME:N; the process ends itself by SIGKILL, without deferred
// calls, the first (Nth) time that it comes to that point. With
// CONCORDAT_FAILPOINT_LOG, a file, every point that is passed is appended to it.
package failpoint

// Variable and LogVariable are the environment variables.
const (
	Variable    = "CONCORDAT_FAILPOINT"
	LogVariable = "CONCORDAT_FAILPOINT_LOG"
)
