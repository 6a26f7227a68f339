// Package database runs private servers of real databases for tests: each on a
// directory, a socket and a free loopback port of its own, as an unprivileged
// user. They can be killed and started again on the same directory. A server
// that is not installed fails the run and names the packages; it never skips.
package database
