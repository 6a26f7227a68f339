package node

import (
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// A page of large transactions is cut to what a response may be, and goes on at
// the next; a transaction that is large alone is shown alone.
func TestPagesFitAResponse(t *testing.T) {
	of := func(size int) *pb.TransactionResponse {
		return &pb.TransactionResponse{Id: strings.Repeat("x", size)}
	}
	tests := map[string]struct {
		sizes []int
		want  int
	}{
		"none":                {nil, 0},
		"all":                 {[]int{100, 100, 100}, 3},
		"the third too much":  {[]int{400, 400, 400}, 2},
		"the first too much":  {[]int{4000, 1}, 1},
		"the second too much": {[]int{1, 4000, 1}, 1},
	}
	for name, test := range tests {
		var list []*pb.TransactionResponse
		for _, size := range test.sizes {
			list = append(list, of(size))
		}
		if got := fits(list, 1000); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	// The largest transaction beside a full page.
	if largest := 64 * (64<<10 + 1<<10); maxListBytes+largest > rpc.MaxResponseBytes {
		t.Error("a page may be larger than a response")
	}
}
