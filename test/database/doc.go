// Package database starts private database servers for tests, from the system's
// binaries: in a directory of their own, on a free port of the loopback, as an
// unprivileged user. They can be killed and started again on the same data. A
// server whose binaries are missing is an error that names the package to
// install; tests fail with it and never skip.
package database
