package cluster

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestRepeatedErrorsAreCounted(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	q := newQuietLogger(hclog.New(&hclog.LoggerOptions{Output: &out}))
	q.now = func() time.Time { return now }
	for range 50 {
		q.Error("failed to heartbeat to", "peer", "n2", "error", "refused")
	}
	q.Error("failed to heartbeat to", "peer", "n3", "error", "refused")
	now = now.Add(quietFor)
	q.Error("failed to heartbeat to", "peer", "n2", "error", "refused")
	if got := strings.Count(out.String(), "n2"); got != 2 {
		t.Errorf("n2 is named %d times, want 2:\n%s", got, out.String())
	}
	if got := strings.Count(out.String(), "n3"); got != 1 {
		t.Errorf("n3 is named %d times, want 1", got)
	}
	if !strings.Contains(out.String(), "repeated=49") {
		t.Errorf("does not say how many were left out:\n%s", out.String())
	}
}
