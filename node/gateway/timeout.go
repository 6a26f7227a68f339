package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/concordat-tx/concordat/rpc"
)

const (
	// timeoutHeader is how long the client waits, as a duration: 5s, 1m30s.
	timeoutHeader = "Request-Timeout"
	// grpcTimeoutHeader is the same in gRPC's form: at most 8 digits and a unit, 5S, 100m.
	grpcTimeoutHeader = "Grpc-Timeout"

	minTimeout = time.Millisecond
	maxTimeout = time.Hour

	timeoutLimit     = "a duration of 1ms to 1h, such as 5s"
	grpcTimeoutLimit = "at most 8 digits and a unit of H, M, S, m, u or n, in all 1ms to 1h, such as 5S"
)

var grpcUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// hasTimeout reports whether the client says how long it waits: of a stream
// that has an end only then.
func hasTimeout(h http.Header) bool {
	return len(h.Values(timeoutHeader))+len(h.Values(grpcTimeoutHeader)) > 0
}

// timeoutOf is how long a call may take. The transaction itself goes on
// without the client; its own budget is the field timeout.
func timeoutOf(h http.Header) (time.Duration, error) {
	own, grpc := h.Values(timeoutHeader), h.Values(grpcTimeoutHeader)
	switch {
	case len(own)+len(grpc) == 0:
		return rpc.DefaultDeadline, nil
	case len(own) > 0 && len(grpc) > 0:
		return 0, rpc.FieldErrorf(timeoutHeader, "either this or "+grpcTimeoutHeader, "both")
	case len(own)+len(grpc) > 1:
		return 0, rpc.FieldErrorf(timeoutHeader, "at most once", "it twice")
	case len(own) == 1:
		d, err := time.ParseDuration(own[0])
		if err != nil || d < minTimeout || d > maxTimeout {
			return 0, rpc.FieldErrorf(timeoutHeader, timeoutLimit, "%s", printable(own[0]))
		}
		return d, nil
	}
	d, ok := grpcTimeout(grpc[0])
	if !ok || d < minTimeout || d > maxTimeout {
		return 0, rpc.FieldErrorf(grpcTimeoutHeader, grpcTimeoutLimit, "%s", printable(grpc[0]))
	}
	return d, nil
}

func grpcTimeout(text string) (time.Duration, bool) {
	if len(text) < 2 || len(text) > 9 {
		return 0, false
	}
	unit, ok := grpcUnits[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if !ok || err != nil || time.Duration(n) > maxTimeout/unit {
		return 0, false
	}
	return time.Duration(n) * unit, true
}
