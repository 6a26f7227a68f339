//go:build !failpoints

package durable

// usualLogBytes is the length of a half of the log if nobody says another.
func usualLogBytes() int64 { return logBytes }
