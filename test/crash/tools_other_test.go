//go:build !linux

package crash

import "errors"

// needTracer: system calls are followed on Linux only.
func needTracer() error { return errors.ErrUnsupported }
