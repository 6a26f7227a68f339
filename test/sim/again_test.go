package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestAgainIsWhatWasSent: a call that is delivered twice is the same both times,
// though the client has gone on to its next id with the message. Otherwise an id
// that was refused for good would come again, and begin.
func TestAgainIsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &messages{random: rand.New(rand.NewPCG(1, 1)), share: 1, ended: t.Context()}
		var got []string
		call := func(_ context.Context, _ string, req, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			got = append(got, req.(*pb.SubmitRequest).GetId())
			return nil
		}
		for m.seen.twice == 0 {
			got = nil
			req := &pb.SubmitRequest{Id: "a"}
			_ = m.intercept(t.Context(), pb.Coordinator_Submit_FullMethodName, req, &pb.TransactionResponse{}, nil, call)
			req.Id = "a.r1"
		}
		time.Sleep(4 * time.Second)
		m.late.Wait()
		if want := []string{"a", "a"}; !slices.Equal(got, want) {
			t.Errorf("delivered %q, want %q", got, want)
		}
	})
}
