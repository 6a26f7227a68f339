package deploy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// contract are metrics that people's own dashboards and alerts are made of:
// their names, kinds and labels do not change. The table in docs/metrics.md may
// be made anew; this one may only grow.
var contract = map[string]struct{ kind, labels string }{
	"concordat_transactions_total":                  {"counter", "outcome, reason"},
	"concordat_transaction_duration_seconds":        {"histogram", "outcome"},
	"concordat_transaction_completed_seconds":       {"histogram", "outcome"},
	"concordat_phase_duration_seconds":              {"histogram", "phase"},
	"concordat_in_doubt":                            {"gauge", ""},
	"concordat_in_doubt_oldest_seconds":             {"gauge", ""},
	"concordat_branch_retries_total":                {"counter", "op, participant"},
	"concordat_participant_prepared":                {"gauge", "participant"},
	"concordat_participant_oldest_prepared_seconds": {"gauge", "participant"},
	"concordat_participant_settlements_total":       {"counter", "decision, participant, settled"},
	"concordat_participant_inquiries_total":         {"counter", "answer, participant"},
	"concordat_heuristic_total":                     {"counter", "participant, settled"},
	"concordat_lock_wait_seconds":                   {"histogram", "participant"},
	"concordat_admission_rejected_total":            {"counter", "reason"},
	"concordat_leader":                              {"gauge", ""},
	"concordat_leader_changes_total":                {"counter", ""},
	"concordat_raft_apply_seconds":                  {"histogram", ""},
	"concordat_build_info":                          {"gauge", "go, version"},
}

func TestContract(t *testing.T) {
	c := observe(t)
	for name, want := range contract {
		m := c.metrics[name]
		switch {
		case m == nil:
			t.Errorf("nobody shows %s", name)
		case m.kind != want.kind || set(m.own).String() != want.labels:
			t.Errorf("%s is a %s with labels %q, want %s with %q", name, m.kind, set(m.own), want.kind, want.labels)
		}
	}
}

// checkNative: a scraper that asks for protobuf gets every histogram in the
// native form, and its classic buckets for the dashboard.
func (w *world) checkNative() {
	w.t.Helper()
	histograms := 0
	for who, address := range w.targets() {
		if p := w.parties[who]; p != nil && !p.Running() {
			continue
		}
		families, err := scrapeProtobuf(within(w.t, w.patience()), address)
		if err != nil {
			w.t.Errorf("%s: %v", who, err)
		}
		for _, f := range families {
			if f.GetType() != dto.MetricType_HISTOGRAM || !strings.HasPrefix(f.GetName(), "concordat_") {
				continue
			}
			histograms++
			for _, s := range f.GetMetric() {
				if h := s.GetHistogram(); h.Schema == nil || h.ZeroThreshold == nil || len(h.GetBucket()) == 0 {
					w.t.Errorf("%s: %s has not both forms", who, f.GetName())
				}
			}
		}
	}
	if histograms < 15 {
		w.t.Errorf("only %d histograms", histograms)
	}
}

func scrapeProtobuf(ctx context.Context, address string) (list []*dto.MetricFamily, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	req.Header.Set("Accept", string(format))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	families := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header))
	for {
		f := &dto.MetricFamily{}
		if err := families.Decode(f); err != nil {
			if errors.Is(err, io.EOF) {
				return list, nil
			}
			return list, err
		}
		list = append(list, f)
	}
}
