//go:build linux

package chaos

import (
	"bytes"
	"io"
	"os"

	"github.com/concordat-tx/concordat/test/chaos/load"
)

// progress counts commits in the journals as they grow.
type progress struct {
	read    map[string]int64
	commits int
}

var commitMark = []byte(`"outcome":"COMMIT"`)

// count reads what was added since and returns the commits so far.
func (p *progress) count(paths []string) (int, error) {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return 0, err
		}
		text, err := io.ReadAll(io.NewSectionReader(f, p.read[path], 1<<40))
		_ = f.Close() // it was only read
		if err != nil {
			return 0, err
		}
		text = text[:bytes.LastIndexByte(text, '\n')+1]
		p.read[path] += int64(len(text))
		p.commits += bytes.Count(text, commitMark)
	}
	return p.commits, nil
}

// openCalls counts the calls of a journal that have no answer.
func openCalls(path string) (int, error) {
	record, err := load.Replay(path)
	if err != nil {
		return 0, err
	}
	open := 0
	for _, t := range record.Txns {
		if len(t.Answers) == 0 {
			open++
		}
	}
	return open, nil
}
