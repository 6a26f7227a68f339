package kvop

import "testing"

// BenchmarkParse reads the payload of a small branch.
func BenchmarkParse(b *testing.B) {
	floor := int64(0)
	payload := Encode([]Op{{Kind: Add, Key: "account/000017", Delta: -5, Min: &floor}, {Kind: Get, Key: "limit/000017"}})
	b.ReportAllocs()
	for b.Loop() {
		if ops, err := Parse(payload); err != nil || len(ops) != 2 {
			b.Fatalf("%v, %v", ops, err)
		}
	}
}
