package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

// exchange sends bytes as they are on a connection of their own and reads one
// response, to a request of that method. cut ends the request there: whatever it has promised
// beyond never comes.
func (w *world) exchange(i int, method, text string, cut bool, patience time.Duration) response {
	conn, err := net.Dial("tcp", w.nodes[i].HTTPAddress())
	if err != nil {
		return response{err: err}
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return response{err: err}
	}
	sent := make(chan error, 1)
	go func() { // the server may answer before it has read everything
		_, err := io.WriteString(conn, text)
		if tcp, ok := conn.(*net.TCPConn); ok && cut && err == nil {
			err = tcp.CloseWrite()
		}
		sent <- err
	}()
	r := read(conn, method)
	_ = conn.Close()
	<-sent
	return r
}

// read reads one response; of a stream only its head.
func read(conn net.Conn, method string) response {
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return response{err: err}
	}
	r := response{status: resp.StatusCode, header: resp.Header} // its body is not closed: that would wait for the end of a stream
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		var text []byte
		text, r.err = io.ReadAll(resp.Body)
		r.body = string(text)
	}
	return r
}

// request writes a request with a body of the length that it says.
func request(method, target string, header []string, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, target)
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	if body != "" || method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

// marks are what a refused request must not move: the log's length and what
// the processes have said.
type marks struct {
	index uint64
	said  int
}

func (w *world) marks() marks {
	var m marks
	for _, n := range w.nodes {
		m.index += n.Replica().Status().LastIndex
	}
	m.said = w.logs.len() + foreign.len()
	return m
}

// quiet waits until the cluster has nothing more to do, and returns its marks.
func (w *world) quiet() marks {
	w.t.Helper()
	var m marks
	w.eventually("the cluster is quiet", func() bool {
		for _, n := range w.nodes {
			live := 0
			n.Replica().View(func(m *fsm.Machine) { live = len(m.Live()) })
			if live > 0 {
				return false
			}
		}
		before := w.marks()
		time.Sleep(30 * time.Millisecond) // paces two looks: quiet is that no entry and no line came between them
		m = w.marks()
		return m == before
	})
	return m
}

// leavesNoTrace repeats a refused request while nothing else happens, and
// reports whether it moved the log or made a process say something each time:
// what moves by itself does not do so thrice.
func (w *world) leavesNoTrace(send func() response) error {
	for try := 1; ; try++ {
		before := w.quiet()
		r := send()
		after := w.marks()
		said := w.logs.String() + foreign.String()
		switch {
		case r.err != nil || r.status < 400 || r.status >= 500:
			return nil // not refused this time
		case after == before:
			return nil
		case try == 3:
			return fmt.Errorf("a request that was refused with %d left a trace: %d entries, and in the logs %q", r.status,
				after.index-before.index, said[max(0, len(said)-300):])
		}
	}
}
