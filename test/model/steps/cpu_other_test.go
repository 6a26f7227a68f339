//go:build !unix

package steps

import "time"

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
