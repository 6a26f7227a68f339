// Package failpoint names the durable steps and the messages of the protocol,
// so that a test can end the process exactly there. It costs nothing in a
// normal build: Hit is empty there, and is inlined away.
//
// Built with the tag "failpoints", the environment variable CONCORDAT_FAILPOINT
// holds NAME or NAME:N; the process ends itself by SIGKILL, without deferred
// calls, the first (Nth) time that it comes to that point. A process that runs
// is told by a file: with CONCORDAT_FAILPOINT_DIR, a folder, it reads (and
// removes) PID.arm there when it gets SIGUSR2, and leaves the name of the point
// in PID.died before it ends.
//
// With "hold " in front of the name the process goes on, and only whoever comes
// to the point is held there, until the process is told something else: the
// name is left in PID.held. So a test can do to others what it likes just then.
//
// With CONCORDAT_FAILPOINT_LOG, a file, every point that is passed is appended
// to it, each by one write of the thread that passes it; from a point's before
// to its after the goroutine stays on that thread. So a trace of the system
// calls shows in the same list what was written between which points.
package failpoint

// Variable, DirVariable and LogVariable are the environment variables.
const (
	Variable    = "CONCORDAT_FAILPOINT"
	DirVariable = "CONCORDAT_FAILPOINT_DIR"
	LogVariable = "CONCORDAT_FAILPOINT_LOG"
)
