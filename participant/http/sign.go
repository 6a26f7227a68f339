package http

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	nethttp "net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// The headers of every call. The signature covers the other two.
const (
	// HeaderBranch is the key of the branch: the same in its try, confirm and cancel.
	HeaderBranch = "Concordat-Branch"
	// HeaderTimestamp is when the call was made, in seconds since 1970.
	HeaderTimestamp = "Concordat-Timestamp"
	// HeaderSignature is "v1=" and the HMAC-SHA256 in hex.
	HeaderSignature = "Concordat-Signature"
)

const (
	signatureVersion = "v1"
	minSecretBytes   = 16
	maxSecretBytes   = 4096
	// MaxSkew is how far the clocks of agent and service may be apart. It keeps
	// old calls from being played again, and no more: safety rests on the key.
	MaxSkew = 5 * time.Minute
)

// Secret is the key of the signatures. It does not show itself.
type Secret struct{ key []byte }

// String hides the secret from logs.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret from logs.
func (Secret) GoString() string { return "(secret)" }

// NewSecret checks the length of a secret; one line break at its end does not count.
func NewSecret(text []byte) (Secret, error) {
	key := []byte(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"))
	if len(key) < minSecretBytes || len(key) > maxSecretBytes {
		return Secret{}, fmt.Errorf("the secret must have %d to %d bytes, it has %d", minSecretBytes, maxSecretBytes, len(key))
	}
	return Secret{key}, nil
}

// ReadSecret reads a secret from a file.
func ReadSecret(path string) (Secret, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Secret{}, err
	}
	s, err := NewSecret(b)
	if err != nil {
		return Secret{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// signature is over version, timestamp, method, path and branch, one a line,
// and the body as it is: no header can hold a line break, so nothing runs together.
func (s Secret) signature(timestamp, method, path, branch string, body []byte) string {
	mac := hmac.New(sha256.New, s.key)
	for _, line := range []string{signatureVersion, timestamp, method, path, branch} {
		mac.Write([]byte(line + "\n"))
	}
	mac.Write(body)
	return signatureVersion + "=" + hex.EncodeToString(mac.Sum(nil))
}

// sign adds the headers to a call.
func (s Secret) sign(r *nethttp.Request, branch string, body []byte, now time.Time) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	r.Header.Set(HeaderBranch, branch)
	r.Header.Set(HeaderTimestamp, timestamp)
	r.Header.Set(HeaderSignature, s.signature(timestamp, r.Method, r.URL.EscapedPath(), branch, body))
}

// errSignature says no more, so that it teaches nobody.
var errSignature = errors.New("the signature is missing, wrong or too old")

// Verify is for services in Go: it checks that a call was made by an agent
// with the same secret, for this path and body, and not long ago.
func (s Secret) Verify(r *nethttp.Request, body []byte, now time.Time) error {
	timestamp := r.Header.Get(HeaderTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return errSignature
	}
	want := s.signature(timestamp, r.Method, r.URL.EscapedPath(), r.Header.Get(HeaderBranch), body)
	if !hmac.Equal([]byte(want), []byte(r.Header.Get(HeaderSignature))) {
		return errSignature
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > MaxSkew || age < -MaxSkew {
		return errSignature
	}
	return nil
}
