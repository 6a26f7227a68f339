package crash

import "github.com/concordat-tx/concordat/test/chaos/place"

// needTracer makes sure that strace is there, without which nothing tells
// whether the points are complete.
func needTracer() error { return place.Need("strace") }
