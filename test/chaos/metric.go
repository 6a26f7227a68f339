//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const metricTimeout = time.Second

// metric sums what a child shows under a name, of the label sets that contain the labels.
func (s *Stage) metric(ctx context.Context, child, name, labels string) (float64, error) {
	address := s.metricsAddress(child)
	ctx, cancel := context.WithTimeout(ctx, metricTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Close = true // no connection is left behind that would be counted
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("metrics of %s: %w", child, err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, fmt.Errorf("metrics of %s: %w", child, err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' || !strings.Contains(rest, labels) {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &value); err != nil {
			return 0, fmt.Errorf("metrics of %s: %q: %w", child, line, err)
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("%s shows no %s{%s}", child, name, labels)
	}
	return sum, nil
}

// holdings is what a process may leak.
type holdings struct {
	Descriptors int `json:"descriptors"`
	Goroutines  int `json:"goroutines"`
}

func (s *Stage) holdings(ctx context.Context, child string) (h holdings, err error) {
	n, err := s.metric(ctx, child, "go_goroutines", "")
	if err != nil {
		return h, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process(child).PID()))
	return holdings{len(files), int(n)}, err
}
