//go:build linux

package chaos

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"
)

// watcher notices children that end although nobody struck them.
type watcher struct {
	stage *Stage
	stop  chan struct{}
	done  chan struct{}

	mu       sync.Mutex
	problems []string
}

func watch(s *Stage) *watcher {
	w := &watcher{stage: s, stop: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

func (w *watcher) run() {
	defer close(w.done)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		for _, child := range w.stage.children() {
			p := w.stage.process(child)
			left := w.stage.struck(child)
			if p.Running() || left > lateEnd {
				continue
			}
			if left <= 0 {
				said, _ := os.ReadFile(p.Log) // it is only shown
				w.add(fmt.Sprintf("%s ended by itself (%v): %s", child, p.Wait(), bytes.TrimSpace(said[max(0, len(said)-1500):])))
			}
			if err := p.Start(); err != nil {
				w.add(fmt.Sprintf("%s cannot be started again: %v", child, err))
				w.stage.mayEnd(child)
			}
		}
	}
}

func (w *watcher) add(problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, problem)
}

func (w *watcher) found() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.problems...)
}

func (w *watcher) close() {
	close(w.stop)
	<-w.done
}

// logSize is how much a child has said so far.
func (s *Stage) logSize(child string) (int64, error) {
	info, err := os.Stat(s.process(child).Log)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// logSince is what it has said since then.
func (s *Stage) logSince(child string, from int64) (string, error) {
	text, err := os.ReadFile(s.process(child).Log)
	if err != nil {
		return "", err
	}
	return string(text[min(from, int64(len(text))):]), nil
}

// crashes are what a Go program says that ends in a way it should not.
var crashes = [][]byte{[]byte("\npanic: "), []byte("\nfatal error: "), []byte("WARNING: DATA RACE"), []byte("\nSIGSEGV")}

// logProblems are crashes in any log of the run.
func (s *Stage) logProblems() []string {
	var list []string
	for _, child := range s.children() {
		text, err := os.ReadFile(s.process(child).Log)
		if err != nil {
			list = append(list, err.Error())
		}
		for _, crash := range crashes {
			if at := bytes.Index(text, crash); at >= 0 {
				list = append(list, fmt.Sprintf("%s crashed: %s", child, bytes.TrimSpace(text[at:min(len(text), at+1500)])))
			}
		}
	}
	return list
}
