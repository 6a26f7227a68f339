//go:build mutants

package mutant

import "os"

// Built reports whether bugs can be switched on in this build.
const Built = true

var chosen = os.Getenv(Variable)

// On reports whether a seeded bug is on.
func On(name string) bool { return name == chosen }
