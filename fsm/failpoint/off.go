//go:build !failpoints

package failpoint

// Built reports whether this build has the points.
const Built = false

// Hit marks a point. It does nothing in this build.
func Hit(string) {}
