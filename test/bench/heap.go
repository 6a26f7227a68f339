package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/concordat-tx/concordat/node/local"
)

// liveHeap is what a node that serves its profiles holds after it has collected
// its garbage. Twice, since what the first leaves to finalizers and pools the second takes.
func liveHeap(ctx context.Context, n *local.Node) (float64, error) {
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+"/debug/pprof/heap?gc=1", nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("%s: %s, %w", req.URL, resp.Status, err)
		}
	}
	m, err := scrape(ctx, n.HTTP)
	return m.value("go_memstats_heap_alloc_bytes"), err
}
