package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// scrapeTimeout bounds one look at one node's metrics.
const scrapeTimeout = 2 * time.Second

// scraper reads nodes' metrics over HTTP.
type scraper struct{ client *http.Client }

func newScraper() *scraper {
	// No proxy: the nodes are children on loopback.
	return &scraper{&http.Client{Transport: &http.Transport{Proxy: nil}, Timeout: scrapeTimeout}}
}

func (s *scraper) close() { s.client.CloseIdleConnections() }

// read is every sample of one process.
func (s *scraper) read(ctx context.Context, address string) (samples, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return parseSamples(resp.Body)
}

// sample is one line of the text format. Only labels whose values hold no
// quotes are told apart, which those of the nodes do not.
type sample struct {
	name, labels string
	value        float64
}

type samples []sample

func parseSamples(r io.Reader) (samples, error) {
	var all samples
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cut := strings.LastIndexByte(line, ' ')
		if cut < 0 {
			return nil, fmt.Errorf("metrics: %q is not a sample", line)
		}
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		name, labels, _ := strings.Cut(line[:cut], "{")
		all = append(all, sample{name, strings.TrimSuffix(labels, "}"), value})
	}
	return all, lines.Err()
}

// value is the one sample of a metric without labels; an error if there is none.
func (s samples) value(name string) (float64, error) {
	for _, x := range s {
		if x.name == name && x.labels == "" {
			return x.value, nil
		}
	}
	return 0, fmt.Errorf("the node has no metric %s", name)
}

// values are several metrics without labels.
func (s samples) values(names ...string) ([]float64, error) {
	list := make([]float64, len(names))
	for i, name := range names {
		v, err := s.value(name)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

// sum adds up the samples of a metric whose labels match.
func (s samples) sum(name string, match func(labels string) bool) (total float64) {
	for _, x := range s {
		if x.name == name && match(x.labels) {
			total += x.value
		}
	}
	return total
}
