// Package demo books flights: a cluster of child processes, a load of
// three-participant transactions, a kill -9 of the leader in the middle, and
// then a timeline of the failover and an audit of every booking.
//
// A booking is one transaction: a seat less in seats, money from a customer to
// an airline in payments, a trip more in profiles, and its own id in each, so
// that an audit can tell one booking from another. Every figure shown is read
// from the answers that clients got, from the nodes (their status and metrics)
// or from the participants' data.
//
// Start, Run and Close are called by one goroutine; what they start, they join.
package demo
