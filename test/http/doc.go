// Package http tests the HTTP interface of a real cluster: three nodes in one
// process with their listeners on loopback, and key-value participants. What
// needs a node that is really killed runs the program.
package http
