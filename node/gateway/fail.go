package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	"github.com/concordat-tx/concordat/rpc"
)

const (
	// statusClientLeft is what nobody is there to read any more; it is what logs show.
	statusClientLeft = 499
	// retryAfter is the hint where the error has none of its own.
	retryAfter = time.Second
	// deadlineSlack: the node's clock for a call may end a little before the gateway's.
	deadlineSlack = 100 * time.Millisecond
)

// statuses are the HTTP statuses of codes. UNKNOWN is an outcome that is not
// known: as for UNAVAILABLE, the client asks again, by id.
var statuses = map[codes.Code]int{
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.NotFound:           http.StatusNotFound,
	codes.AlreadyExists:      http.StatusConflict,
	codes.FailedPrecondition: http.StatusConflict,
	codes.ResourceExhausted:  http.StatusTooManyRequests,
	codes.Canceled:           statusClientLeft,
	codes.DeadlineExceeded:   http.StatusGatewayTimeout,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.Unknown:            http.StatusServiceUnavailable,
	codes.Unimplemented:      http.StatusNotImplemented,
}

// refusal is an error of HTTP itself, with a status of its own.
type refusal struct {
	cause  *rpc.Error
	status int
}

func (r *refusal) Error() string { return r.cause.Error() }
func (r *refusal) Unwrap() error { return r.cause }

func refuse(status int, field, limit, got string, args ...any) error {
	return &refusal{rpc.FieldErrorf(field, limit, got, args...), status}
}

// statusOf is the HTTP status of an error.
func statusOf(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	if status, ok := statuses[rpc.FromError(err).Reason.Code()]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// wireError is an error as it is sent.
type wireError struct {
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Details map[string]string `json:"details"`
}

func newWireError(e *rpc.Error) wireError {
	details := map[string]string{"reason": string(e.Reason)}
	for name, value := range e.Details {
		details[name] = value
	}
	for name, value := range map[string]string{
		"field": e.Field, "limit": e.Limit, "txn": e.Txn, "participant": e.Participant,
		"leader_id": e.LeaderID, "leader_address": e.LeaderAddress,
	} {
		if value != "" {
			details[name] = value
		}
	}
	// A message may repeat what came from elsewhere; a reader gets UTF-8.
	return wireError{code.Code(e.Reason.Code()).String(), strings.ToValidUTF8(e.Message, "\uFFFD"), details}
}

// fail answers with an error.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := *rpc.FromError(err)
	if c := callOf(r.Context()); c != nil && c.explain(r.Context(), &e) {
		err = &e
	}
	status := statusOf(err)
	if e.Reason == rpc.ReasonInternal {
		g.log.Error("a request failed by a defect: please report it", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	h := w.Header()
	h.Set("Content-Type", contentJSON)
	h.Set("X-Content-Type-Options", "nosniff")
	switch status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		after := retryAfter
		if e.RetryAfter > 0 {
			after = e.RetryAfter
		}
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	line, err := json.Marshal(newWireError(&e))
	if err != nil { // strings only: it cannot be
		line = []byte(`{"code":"INTERNAL","message":"the error could not be written","details":{}}`)
	}
	h.Set("Content-Length", strconv.Itoa(len(line)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(line, '\n')) // whoever left does not read it
}

// unrouted answers a request for which there is no route.
func (g *Gateway) unrouted(w http.ResponseWriter, r *http.Request, status int) {
	switch status {
	case http.StatusNotFound:
		g.fail(w, r, rpc.Errorf(rpc.ReasonNotFound, "there is no %s; GET / lists what there is", printable(r.URL.Path)))
	case http.StatusMethodNotAllowed:
		g.wrongMethod(w, r, methodsOf(r.URL.Path))
	default:
		g.fail(w, r, refuse(status, "path", "a path", "%q", r.URL.Path))
	}
}

func (g *Gateway) wrongMethod(w http.ResponseWriter, r *http.Request, methods []string) {
	allowed := strings.Join(methods, ", ")
	w.Header().Set("Allow", allowed)
	e := rpc.Errorf(rpc.ReasonUnimplemented, "%s takes %s, got %s", printable(r.URL.Path), allowed, printable(r.Method))
	g.fail(w, r, &refusal{e, http.StatusMethodNotAllowed})
}

// printable is a request's text as a message repeats it.
func printable(text string) string {
	const most = 80
	quoted := strconv.QuoteToASCII(text)
	quoted = quoted[1 : len(quoted)-1]
	if len(quoted) > most {
		return quoted[:most] + "…"
	}
	return quoted
}

// explain adds to an error what the client needs to settle it: the id, which
// the gateway may have made, and since. A call that its deadline ended says so,
// wherever it was noticed; then the reason is another one.
func (c *call) explain(ctx context.Context, e *rpc.Error) (late bool) {
	deadline, ok := ctx.Deadline()
	if ok && time.Until(deadline) < deadlineSlack && (e.Reason == rpc.ReasonOutcomeUnknown || e.Reason == rpc.ReasonCancelled || e.Reason == rpc.ReasonDeadline) {
		late, e.Reason = true, rpc.ReasonDeadline
		e.Message = fmt.Sprintf("no answer within %s (%s)", c.timeout, timeoutHeader)
		if c.changes && c.id != "" {
			e.Message += fmt.Sprintf("; transaction %s goes on: get it, or repeat the request with the same id, to learn its outcome", c.id)
		}
	}
	if e.Txn == "" && !e.Definite() {
		e.Txn = c.id
	}
	if e.Txn != "" && e.Txn == c.id && c.since != nil && !e.Definite() {
		details := map[string]string{"since": strconv.FormatUint(*c.since, 10)}
		for name, value := range e.Details {
			details[name] = value
		}
		e.Details = details
	}
	return late
}
