package deploy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/node/local"
	httpservice "github.com/concordat-tx/concordat/participant/http"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/database"
)

// The kinds of participant beside the KV, which show metrics of their own.
const (
	onPostgres = "bank"
	onMariaDB  = "ledger"
	overHTTP   = "hotel"
)

// addKinds starts one of each.
func (w *world) addKinds(dir string) {
	w.t.Helper()
	w.foreign = newPostgres(w.t)
	w.addParty(onPostgres, dir, []string{"CONCORDAT_DSN=" + w.foreign}, "postgres")
	w.addParty(onMariaDB, dir, []string{"CONCORDAT_DSN=" + newMariaDB(w.t)}, "mysql")
	url, secret := newService(w.t, dir)
	w.addParty(overHTTP, dir, nil, "http", "--url", url, "--secret-file", secret, "--data-dir", filepath.Join(dir, overHTTP))
}

// addParty starts the participant that args describe, with metrics.
func (w *world) addParty(name, dir string, env []string, args ...string) {
	w.t.Helper()
	p := &party{metrics: freeAddress(w.t)}
	p.Process = local.NewProcess(name, binary, dir, append([]string{"participant"}, append(args,
		"--name", name, "--listen", freeAddress(w.t), "--metrics-listen", p.metrics,
		"--nodes", strings.Join(w.Addresses(), ","), "--register")...), env)
	w.parties[name] = p
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
}

func newPostgres(t *testing.T) (dsn string) {
	t.Helper()
	p, err := database.StartPostgres(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx := within(t, time.Minute)
	name, err := p.NewDatabase(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return p.DSN(name, name)
}

func newMariaDB(t *testing.T) (dsn string) {
	t.Helper()
	ctx := within(t, time.Minute)
	m, err := database.StartMariaDB(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if dsn, err = m.Create(ctx); err != nil {
		t.Fatal(err)
	}
	return dsn
}

// newService grants whatever it is asked for.
func newService(t *testing.T, dir string) (url, secretFile string) {
	t.Helper()
	secretFile = filepath.Join(dir, "secret")
	if err := os.WriteFile(secretFile, []byte("only the two of them know"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, err := httpservice.ReadSecret(secretFile)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = secret.Verify(r, body, time.Now())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, secretFile
}

// checkKinds runs a transaction over all of them and reads the numbers of it,
// while a stranger has prepared one of its own in PostgreSQL.
func (w *world) checkKinds() {
	w.t.Helper()
	statement := []byte(`{"statements":[{"sql":"SELECT 1"}]}`)
	w.run(20*time.Second, pb.Outcome_COMMIT,
		&pb.Branch{Participant: onPostgres, Payload: statement},
		&pb.Branch{Participant: onMariaDB, Payload: statement},
		&pb.Branch{Participant: overHTTP, Payload: []byte(`{}`)})
	w.prepareByHand()
	for _, name := range []string{onPostgres, onMariaDB} {
		families, err := scrape(within(w.t, w.patience()), w.parties[name].metrics)
		if err != nil {
			w.t.Fatal(err)
		}
		if value(families, "concordat_database_up") != 1 {
			w.t.Errorf("%s does not say that its database is up", name)
		}
		foreign := 0.0
		if name == onPostgres {
			foreign = 1
		}
		if got := value(families, "concordat_database_prepared", "whose=foreign"); got != foreign {
			w.t.Errorf("%s shows %v foreign prepared transactions, want %v", name, got, foreign)
		}
	}
	for _, call := range []string{"try", "confirm"} {
		w.eventually("the service's "+call+" is counted", func() bool {
			return w.sum("concordat_http_calls_total", "op="+call, "answer=ok") == 1
		})
	}
}

// prepareByHand does what a forgotten tool of somebody else may do.
func (w *world) prepareByHand() {
	w.t.Helper()
	ctx := within(w.t, w.patience())
	conn, err := pgx.Connect(ctx, w.foreign)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"BEGIN", "CREATE TABLE stray (id int)", "PREPARE TRANSACTION 'stray'"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			w.t.Fatal(err)
		}
	}
}
