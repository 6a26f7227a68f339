//go:build failpoints

package durable

import (
	"os"
	"strconv"
)

// logVariable is the length of a half of the log, in bytes, so that it is full after
// a few branches.
const logVariable = "CONCORDAT_LOG_BYTES"

// usualLogBytes is the length of a half of the log if nobody says another.
func usualLogBytes() int64 {
	text, ok := os.LookupEnv(logVariable)
	if !ok {
		return logBytes
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(logVariable + ": " + err.Error())
	}
	return n
}
