package rpc

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// BenchmarkFrame writes and reads a frame of 16 calls; figures are for one call.
func BenchmarkFrame(b *testing.B) {
	const calls = 16
	head := callHead{number: 1 << 20, method: "/concordat.v1.Participant/Prepare", timeoutUs: 5_000_000}
	req := &pb.PrepareRequest{Payload: bytes.Repeat([]byte{'x'}, 64)}
	b.ReportAllocs()
	var frame []byte
	var read []carriedCall
	for i := 0; i < b.N; i += calls {
		frame = frame[:0]
		var err error
		for range calls {
			if frame, err = appendCall(frame, &head, req, proto.Size(req)); err != nil {
				b.Fatal(err)
			}
		}
		if read, err = readCalls(frame, read[:0]); err != nil || len(read) != calls {
			b.Fatalf("%d calls, %v", len(read), err)
		}
	}
}
