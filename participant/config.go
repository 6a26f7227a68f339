package participant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Cluster is how a participant asks the coordinator's nodes. Dial makes the
// usual one.
type Cluster interface {
	// Nodes are the addresses to ask, at least one for inquiries to work. The
	// list may change between calls.
	Nodes() []string
	// Outcomes asks one node. The call must end with ctx.
	Outcomes(ctx context.Context, node string, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error)
}

// Config is what a Server needs. DefaultConfig has the usual times.
type Config struct {
	// Name is the participant's registered name: 1 to 64 bytes of [a-z0-9-].
	Name            string
	ResourceManager ResourceManager
	Cluster         Cluster
	// Logger; nil logs nothing.
	Logger hclog.Logger
	// Metrics takes the collectors; nil keeps them to the Server. They carry
	// the participant's name, so several participants may share one registry.
	Metrics prometheus.Registerer
	// InquiryDelay is how long a branch may be prepared before the cluster is
	// asked about it (P7). 1 ms to 1 min.
	InquiryDelay time.Duration
	// AlertAfter is how long a branch may stay prepared, or a decided one fail
	// to settle, before an operator is told. 10 ms to 1 h.
	AlertAfter time.Duration
	// AlertWebhook is the URL that alerts are posted to, in the form of
	// Alertmanager's /api/v2/alerts; empty: nowhere.
	AlertWebhook string
	// AlertRepeat is how often an alert that stands is told again. 100 ms to 24 h.
	AlertRepeat time.Duration
	// AlertDir is a directory for the small file in which the Server remembers
	// what it told the webhook, so that it can tell after a restart that it is
	// over. Empty: it does not remember.
	AlertDir string
	// Tries is how often the work of a Prepare is tried while its errors are
	// transient. 1 to 10.
	Tries int
	// ForgetEvery is how often the cluster is asked which finished branches
	// may be forgotten. 10 ms to 1 h.
	ForgetEvery time.Duration
}

// DefaultConfig has every time and count set; Name, ResourceManager and
// Cluster are the caller's.
func DefaultConfig() Config {
	return Config{
		InquiryDelay: 500 * time.Millisecond,
		AlertAfter:   30 * time.Second,
		AlertRepeat:  alerting.DefaultRepeat,
		Tries:        3,
		ForgetEvery:  5 * time.Second,
	}
}

// Validate reports every field that is missing or outside its limits.
func (c Config) Validate() error {
	var errs []error
	if err := fsm.CheckParticipant("Name", c.Name); err != nil {
		errs = append(errs, err)
	}
	refuse := func(field, limit string, got any) {
		errs = append(errs, fmt.Errorf("%s: %s, got %v", field, limit, got))
	}
	if c.ResourceManager == nil {
		refuse("ResourceManager", "must be set", nil)
	}
	if c.Cluster == nil {
		refuse("Cluster", "must be set (see Dial)", nil)
	}
	if c.Tries < 1 || c.Tries > 10 {
		refuse("Tries", "1 to 10", c.Tries)
	}
	within := func(field string, d, low, high time.Duration) {
		if d < low || d > high {
			refuse(field, fmt.Sprintf("%v to %v", low, high), d)
		}
	}
	within("InquiryDelay", c.InquiryDelay, time.Millisecond, time.Minute)
	within("AlertAfter", c.AlertAfter, 10*time.Millisecond, time.Hour)
	within("ForgetEvery", c.ForgetEvery, 10*time.Millisecond, time.Hour)
	if c.AlertWebhook != "" {
		if _, err := alerting.NewWebhook(alertWebhookField, c.AlertWebhook); err != nil {
			errs = append(errs, err)
		}
		if err := alerting.CheckRepeat("AlertRepeat", c.AlertRepeat); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("participant configuration: %w", err)
	}
	return nil
}
