// Package mutants proves the suites: every seeded bug of fsm/mutant must be
// found by the simulation (test/sim) or by the steppers (test/model/steps) as
// they stand, within a stated number of their seeds, or by the conformance suite
// of resource managers. The unbroken build must pass them, on those very seeds.
//
//	make prove                                         all of them
//	go test ./test/mutants -prove -run Bugs/no-resume -v
package mutants
