// Package meter holds the collectors that every process of Concordat shows:
// the calls that its gRPC server answers, its version, and Go's and the
// process's own. It keeps the metrics library out of package rpc, which clients import.
package meter
