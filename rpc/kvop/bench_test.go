package kvop

import "testing"

func BenchmarkParse(b *testing.B) {
	payload := []byte(`{"ops":[{"op":"add","key":"k12345","delta":1}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(payload); err != nil {
			b.Fatal(err)
		}
	}
}
