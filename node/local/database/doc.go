// Package database starts private database servers from the system's binaries:
// in a directory of their own, on a free port of the loopback, as an unprivileged
// user, with passwords that nobody else knows. They can be killed, paused and
// started again on the same data, and end with this process unless they are let
// go. The demo and the tests share it. A server whose programs are missing is a
// *Missing, which names Debian's packages. It takes Linux.
package database
