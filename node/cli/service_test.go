package cli

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	httpservice "github.com/concordat-tx/concordat/participant/http"
)

// tccService is a service over HTTP in this process. It reserves whatever it
// is asked for, unless the payload says no.
type tccService struct {
	secret httpservice.Secret

	mu     sync.Mutex // guards states
	states map[string]string
}

func (s *tccService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = s.secret.Verify(r, body, time.Now())
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Header.Get(httpservice.HeaderBranch)
	switch call := strings.TrimPrefix(r.URL.Path, "/"); {
	case call == "try" && strings.Contains(string(body), "no"):
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, "not today")
	case call == "try":
		s.states[key] = "reserved"
		fmt.Fprint(w, `{"seat":"12A"}`)
	default:
		s.states[key] += ", " + call
	}
}

// service runs a service with the secret of the file "secret", at the address
// $NAME: service start NAME. service show NAME prints what became of its reservations.
func (s *stage) service(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: service start|show NAME")
	}
	key := "service " + args[1]
	if args[0] == "show" {
		service := things(ts)[key].(*tccService)
		service.mu.Lock()
		defer service.mu.Unlock()
		for _, id := range slices.Sorted(maps.Keys(service.states)) {
			fmt.Fprintf(ts.Stdout(), "%s: %s\n", strings.Split(id, "/")[2], service.states[id])
		}
		return
	}
	secret, err := httpservice.ReadSecret(filepath.Join(ts.Getenv("WORK"), "secret"))
	ts.Check(err)
	service := &tccService{secret: secret, states: map[string]string{}}
	server := httptest.NewServer(service)
	things(ts)[key] = service
	ts.Setenv(args[1], server.URL)
	ts.Defer(server.Close)
}
