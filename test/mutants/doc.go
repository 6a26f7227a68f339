// Package mutants proves the suites: every seeded bug of fsm/mutant must be
// found by the simulation (test/sim) or by the steppers (test/model/steps) as
// they stand, within a stated number of their seeds, and the unbroken build
// must pass those very seeds.
//
//	make prove                                         all of them
//	go test ./test/mutants -prove -run Bugs/no-resume -v
//
// Rule P17 has none yet; the models (test/model/promela) break it.
package mutants
