// Package crash ends the processes of a real cluster at every named point of
// the protocol (see fsm/failpoint): before and after each durable step and
// each message, one process after the other, and in pairs for as long as asked.
package crash
