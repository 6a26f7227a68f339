package http

import (
	nethttp "net/http"
	"strings"
	"testing"
	"time"
)

var signedAt = time.Unix(1_800_000_000, 0)

func signed(t *testing.T, body string) *nethttp.Request {
	t.Helper()
	r, err := nethttp.NewRequest(nethttp.MethodPost, "http://127.0.0.1:8080/booking/try", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	testSecret.sign(r, "c1/seats/booking-42/1.3.17/00112233445566778899aabbccddeeff", []byte(body), signedAt)
	return r
}

// TestSignatureIsStable: services in other languages compute it, and docs show this very one.
func TestSignatureIsStable(t *testing.T) {
	const want = "v1=b8b0b778effe7cb8ddb0ca87ba1251fbe6503bc8808b694c1f563bd5604f1da5"
	if got := signed(t, `{"seats": 1}`).Header.Get(HeaderSignature); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestVerify: whatever is changed on the way, the signature does not fit.
func TestVerify(t *testing.T) {
	const body = `{"seats": 1}`
	if err := testSecret.Verify(signed(t, body), []byte(body), signedAt.Add(MaxSkew)); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(*nethttp.Request)
		body   string
		now    time.Time
		secret Secret
	}{
		"body":            {nil, `{"seats": 2}`, signedAt, testSecret},
		"path":            {func(r *nethttp.Request) { r.URL.Path = "/booking/confirm" }, body, signedAt, testSecret},
		"method":          {func(r *nethttp.Request) { r.Method = "PUT" }, body, signedAt, testSecret},
		"branch":          {func(r *nethttp.Request) { r.Header.Set(HeaderBranch, "c1/seats/booking-43/1.3.17/00") }, body, signedAt, testSecret},
		"timestamp":       {func(r *nethttp.Request) { r.Header.Set(HeaderTimestamp, "1800000001") }, body, signedAt, testSecret},
		"no timestamp":    {func(r *nethttp.Request) { r.Header.Del(HeaderTimestamp) }, body, signedAt, testSecret},
		"no signature":    {func(r *nethttp.Request) { r.Header.Del(HeaderSignature) }, body, signedAt, testSecret},
		"another version": {func(r *nethttp.Request) { r.Header.Set(HeaderSignature, "v2"+r.Header.Get(HeaderSignature)[2:]) }, body, signedAt, testSecret},
		"another secret":  {nil, body, signedAt, mustSecret("another secret of the tests")},
		"too old":         {nil, body, signedAt.Add(MaxSkew + time.Second), testSecret},
		"of the future":   {nil, body, signedAt.Add(-MaxSkew - time.Second), testSecret},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := signed(t, body)
			if test.change != nil {
				test.change(r)
			}
			if err := test.secret.Verify(r, []byte(test.body), test.now); err == nil {
				t.Error("it verifies")
			}
		})
	}
}
