// Package conform is the conformance suite of participants over the wire: it
// acts as the cluster toward one participant, in whatever language that is
// written, and holds it against the rules that can be seen from outside (P3,
// P5 to P8, P11, P14, P16). The suite for resource managers in Go, which also
// looks inside, is participanttest.
//
// Run sends Describe, Prepare, Commit and Rollback to the participant's
// endpoint and serves the cluster's side on a listener: Outcomes, which a
// participant in doubt asks (P7), and AddParticipant, so that one that
// registers itself is content. With a Process it also kills the participant
// and starts it again, which shows whether what was answered was durable
// against the end of the process. The loss of power it cannot show.
//
// A check that could not be made is SKIP with the reason, never PASS.
//
//	report, err := conform.Run(ctx, conform.Config{Endpoint: "127.0.0.1:7301", Listener: l, Process: p})
//
// The participant must be there for the suite alone: its data are bound to a
// cluster that exists nowhere else.
package conform
