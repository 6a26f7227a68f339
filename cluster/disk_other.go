//go:build !linux && !darwin

package cluster

import (
	"errors"
	"fmt"
)

func diskSpace(dir string) (DiskSpace, error) {
	return DiskSpace{}, fmt.Errorf("free space of %s: %w", dir, errors.ErrUnsupported)
}
