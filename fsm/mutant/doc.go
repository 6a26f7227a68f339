// Package mutant switches on one seeded bug of the product, to prove that the
// test suites find it. It costs nothing in a normal build: On is a constant
// false there, and the compiler drops what stands behind it.
//
// Built with the tag "mutants", the environment variable CONCORDAT_MUTANT
// names the one bug that is on. Each place that asks names a bug of List.
package mutant

// Variable is the environment variable that names the bug.
const Variable = "CONCORDAT_MUTANT"
