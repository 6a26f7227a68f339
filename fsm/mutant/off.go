//go:build !mutants

package mutant

// Built reports whether bugs can be switched on in this build.
const Built = false

// On reports whether a seeded bug is on: never, in this build.
func On(string) bool { return false }
