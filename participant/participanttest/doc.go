// Package participanttest is the conformance suite of resource managers: every
// implementation of participant.ResourceManager must pass Run.
//
// Each check runs twice: against the resource manager itself, and against a
// participant.Server around it, called over gRPC on a loopback socket. The
// checks cover Prepare, Commit and Rollback, each once, twice, late and out of
// order, of older and newer attempts, in a second life of an id, with crashes
// before and after each durable write (P5, P6, P8, P14); random schedules of
// the same are compared with a model of one participant.
//
// A resource manager is brought into the suite by a Harness:
//
//	func TestConformance(t *testing.T) {
//		participanttest.Run(t, func(t testing.TB) participanttest.Harness { … })
//	}
package participanttest
