// Package cli is the command line, one file a noun: flags in, calls of the
// packages that do the work, answers out. Nothing imports it but main.
//
// What people script against: the exit status (exit.go), the JSON of -o json
// (output.go, render.go), CONCORDAT_NODES, and that answers go to stdout and
// everything else to stderr.
package cli
