package conform

// Status is how a check came out.
type Status string

// The statuses of a check.
const (
	Pass Status = "PASS"
	Fail Status = "FAIL"
	// Skip: it could not be made; Note says why. It is not passed.
	Skip Status = "SKIP"
)

// Result is one check as it came out. Sent, Expected, Got and Why are set if it failed.
type Result struct {
	Check    string `json:"check"`
	Rule     string `json:"rule"`
	Status   Status `json:"status"`
	Sent     string `json:"sent,omitempty"`
	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
	Why      string `json:"why,omitempty"`
	// Note says why a check was skipped, or what of it was not looked at.
	Note string `json:"note,omitempty"`
}

// Report is a whole run.
type Report struct {
	Endpoint    string   `json:"endpoint"`
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	Incarnation string   `json:"incarnation"`
	Passed      int      `json:"passed"`
	Failed      int      `json:"failed"`
	Skipped     int      `json:"skipped"`
	Checks      []Result `json:"checks"`
}

func (r *Report) add(one Result) {
	switch one.Status {
	case Pass:
		r.Passed++
	case Fail:
		r.Failed++
	case Skip:
		r.Skipped++
	}
	r.Checks = append(r.Checks, one)
}

// failure is what a check saw that it must not see. It ends the check.
type failure struct{ sent, expected, got string }
