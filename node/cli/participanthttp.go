package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	httpservice "github.com/concordat-tx/concordat/participant/http"
)

const (
	// httpFile is the journal's file within the data directory.
	httpFile = "http.db"
	// secretVariable holds the secret, if no file does.
	secretVariable = "CONCORDAT_HTTP_SECRET"
)

func newParticipantHTTPCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "http --name NAME --url URL --data-dir DIR --secret-file FILE --listen host:port",
		Short: "Run a participant for a service that serves try, confirm and cancel over HTTP",
		Long: `Run a participant for a service in any language that reserves in try, and makes
the reservation final in confirm or gives it back in cancel. Each is a POST to a
path below --url, signed with the secret. The agent keeps a journal, so that the
service is told the end of every reservation, whatever crashes: run one agent for
a name, and keep its --data-dir.

Back its data up by copying the whole --data-dir while it is stopped: a log may
stand beside the file, and one is nothing without the other. Data restored from a
backup must be given a --new-incarnation once, and vote again when an operator has
accepted it with 'concordat participants add --accept-incarnation'.`,
		Example: `  concordat participant http --name seats --url http://127.0.0.1:8080 --data-dir data/seats-agent \
      --secret-file seats.secret --listen 127.0.0.1:7301 \
      --nodes 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 --register`,
		Args: usageArgs(cobra.NoArgs),
	}
	f := newParticipantFlags(a, cmd)
	f.dataDirFlag(cmd)
	serviceURL := cmd.Flags().String("url", "", "the service's base URL: try, confirm and cancel are paths below it")
	secretFile := cmd.Flags().String("secret-file", "", "the file with the secret that signs every call, 16 bytes or more (default: $"+secretVariable+")")
	cmd.RunE = f.runs(a, f.check, func(ctx context.Context, f *participantFlags, log hclog.Logger) error {
		secret, err := readSecret(a, *secretFile)
		if err != nil {
			return err
		}
		o := httpservice.Options{
			Name: f.name, URL: *serviceURL, Secret: secret, NewIncarnation: f.newIncarnation, Logger: log.Named("http"),
		}
		if err := checkService(*serviceURL, f.insecure, o); err != nil {
			return &usageError{fmt.Errorf("--url: %w", err)}
		}
		return runHTTP(ctx, f, o, log)
	})
	return cmd
}

func readSecret(a *app, file string) (httpservice.Secret, error) {
	if file != "" {
		secret, err := httpservice.ReadSecret(file)
		if err != nil {
			return secret, &usageError{fmt.Errorf("--secret-file: %w", err)}
		}
		return secret, nil
	}
	text := a.env(secretVariable)
	if text == "" {
		return httpservice.Secret{}, usageErrorf("--secret-file (or %s): say which secret signs the calls", secretVariable)
	}
	secret, err := httpservice.NewSecret([]byte(text))
	if err != nil {
		return secret, usageErrorf("%s: %w", secretVariable, err)
	}
	return secret, nil
}

// checkService refuses what Open would, and a service on another machine
// without TLS: calls are signed, but anybody on the way could read them.
func checkService(text string, insecure bool, o httpservice.Options) error {
	if text == "" {
		return errors.New("say where the service is")
	}
	if err := o.Validate(); err != nil {
		return err
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && !insecure && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s may be another machine, and http is not encrypted: use https, or --insecure", u.Host)
	}
	return nil
}

// runHTTP opens the journal and serves.
func runHTTP(ctx context.Context, f *participantFlags, o httpservice.Options, log hclog.Logger) (err error) {
	if err := os.MkdirAll(f.dataDir, 0o700); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	m, err := httpservice.Open(filepath.Join(f.dataDir, httpFile), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return f.serve(ctx, m, log)
}
