//go:build !race

package kv

// raceEnabled: the race detector makes everything ten times slower.
const raceEnabled = false
