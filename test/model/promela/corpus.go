package promela

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"strings"
)

//go:embed testdata/corpus.txt
var corpus []byte

// Corpus is the committed schedules: one a line, as writeCorpus writes them.
func Corpus() []Schedule {
	list, err := readCorpus(bytes.NewReader(corpus))
	if err != nil {
		panic("promela: testdata/corpus.txt: " + err.Error())
	}
	return list
}

// readCorpus reads what writeCorpus writes.
func readCorpus(r io.Reader) ([]Schedule, error) {
	var list []Schedule
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		head, tail, ok := strings.Cut(lines.Text(), ": ")
		fields := strings.Fields(head)
		if !ok || len(fields) < 2 {
			return nil, fmt.Errorf("line %d: no model, name and events", len(list)+1)
		}
		s := Schedule{Model: fields[0], Name: fields[1], Flags: fields[2:]}
		for text := range strings.SplitSeq(tail, "; ") {
			e, err := parseEvent(text)
			if err != nil {
				return nil, err
			}
			s.Events = append(s.Events, e)
		}
		list = append(list, s)
	}
	return list, lines.Err()
}

// writeCorpus writes one schedule a line: model, name and flags, then its events.
func writeCorpus(w io.Writer, list []Schedule) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "# Schedules of the models: go test ./test/model/promela -run TestCorpus -update")
	for _, s := range list {
		texts := make([]string, len(s.Events))
		for i, e := range s.Events {
			texts[i] = e.String()
		}
		fmt.Fprintf(b, "%s: %s\n", strings.Join(append([]string{s.Model, s.Name}, s.Flags...), " "), strings.Join(texts, "; "))
	}
	return b.Flush()
}
