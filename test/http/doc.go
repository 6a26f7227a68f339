// Package http tests the HTTP interface of a real cluster: three nodes in one
// process with their listeners on loopback, and key-value participants.
package http
