package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/jsonform"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// MaxBodyBytes bounds a body: the largest legal transaction, and room for the
// names, the punctuation and the line breaks around its payloads.
const MaxBodyBytes = fsm.MaxTransactionBytes + 32<<10

// writeGrace is how long a client may take to read an answer.
const writeGrace = 30 * time.Second

// call is one request under way, kept in its context.
type call struct {
	route   route
	message proto.Message
	// id is the transaction that the request is about, if it is about one.
	id string
	// since goes with an id that the gateway made or the client gave.
	since *uint64
	// changes: the work goes on when the client does not wait for it.
	changes bool
	timeout time.Duration
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// inspect reads a request strictly before its generated handler sees it, and
// hands that one only what was read.
func (g *Gateway) inspect(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		r.Header, _ = r.Context().Value(headerKey{}).(http.Header)
		c, err := g.read(w, r, path)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		ctx := context.WithValue(r.Context(), callKey{}, c)
		slots, most := g.calls, g.cfg.MaxCalls
		_, stream := c.message.(*pb.WatchRequest)
		if stream {
			slots, most = g.watches, g.cfg.MaxWatches
		}
		if !stream || hasTimeout(r.Header) {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.timeout)
			defer cancel()
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(c.timeout + writeGrace)) // a test's recorder has none
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			e := rpc.Errorf(rpc.ReasonOverloaded, "%d requests of this kind are in progress at this node, the most that it takes; try again later, or at another node", most)
			e.RetryAfter = retryAfter
			g.fail(w, r, e)
			return
		}
		// Whatever else a request has is not for the services.
		inner := r.Clone(ctx)
		inner.Header, inner.Host, inner.Form, inner.Body = http.Header{}, "", url.Values{}, http.NoBody
		if last := r.Header.Values(lastEventHeader); len(last) > 0 {
			inner.Header[lastEventHeader] = last
		}
		if c.route.body {
			inner.Body = body{c.message}
		} else {
			inner.Form = form(c.message)
		}
		next(w, inner, path)
	}
}

// read checks a request and reads its query or body.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request, path map[string]string) (*call, error) {
	pattern, _ := runtime.HTTPPattern(r.Context())
	c := &call{route: routes[r.Method+" "+strings.ReplaceAll(pattern.String(), "=*}", "}")]}
	if c.route.message == nil {
		return nil, rpc.Errorf(rpc.ReasonInternal, "route %s %s is not described", r.Method, pattern.String())
	}
	c.message = c.route.message()
	for name, value := range path {
		if !utf8.ValidString(value) {
			return nil, rpc.FieldErrorf(name, "UTF-8", "%s", strconv.QuoteToASCII(value))
		}
	}
	var err error
	if c.timeout, err = timeoutOf(r.Header); err != nil {
		return nil, err
	}
	if c.route.body {
		if r.URL.RawQuery != "" {
			return nil, rpc.FieldErrorf("query", "no parameters beside a body", "%s", printable(r.URL.RawQuery))
		}
		err = g.readBody(w, r, c)
	} else {
		err = readQuery(r, c)
	}
	if err != nil {
		return nil, err
	}
	// The body is read: the connection's deadline for that would end the call.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a test's recorder has none
	g.identify(c, path)
	return c, nil
}

func readQuery(r *http.Request, c *call) error {
	if r.ContentLength != 0 {
		return rpc.FieldErrorf("request", "no body with "+r.Method, "one")
	}
	return jsonform.ParseQuery(r.URL.RawQuery, c.message, c.route.fromPath...)
}

func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := checkContent(r.Header); err != nil {
		return err
	}
	limit := "at most " + strconv.Itoa(MaxBodyBytes) + " bytes"
	if r.ContentLength > MaxBodyBytes {
		w.Header().Set("Connection", "close")
		return refuse(http.StatusRequestEntityTooLarge, "request", limit, "%d bytes", r.ContentLength)
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return refuse(http.StatusRequestEntityTooLarge, "request", limit, "more")
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "request", "a whole body", "one that ended early: %v", err)
	}
	if len(text) == 0 && c.route.optional {
		return nil
	}
	return jsonform.Parse(text, c.message, c.route.fromPath...)
}

// checkContent admits JSON only. A form on some other site can send no such
// type without asking first, so nothing is done on behalf of a stranger's page.
func checkContent(h http.Header) error {
	const limit = "application/json, in UTF-8 and not compressed"
	for _, coding := range h.Values("Content-Encoding") {
		if coding != "" && coding != "identity" {
			return refuse(http.StatusUnsupportedMediaType, "Content-Encoding", limit, "%s", printable(coding))
		}
	}
	kinds := h.Values("Content-Type")
	if len(kinds) == 0 {
		return refuse(http.StatusUnsupportedMediaType, "Content-Type", limit, "nothing")
	}
	kind, parameters, err := mime.ParseMediaType(kinds[0])
	charset := parameters["charset"]
	if err != nil || len(kinds) > 1 || kind != contentJSON || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return refuse(http.StatusUnsupportedMediaType, "Content-Type", limit, "%s", printable(strings.Join(kinds, ", ")))
	}
	return nil
}

// identify notes which transaction a call is about, and makes the id of one
// that has none: should the answer be lost, the client can settle it by that.
func (g *Gateway) identify(c *call, path map[string]string) {
	c.id = path["id"]
	switch m := c.message.(type) {
	case *pb.SubmitRequest:
		if m.GetId() == "" {
			m.Id = uuid.Must(uuid.NewV7()).String()
			if g.cfg.Index != nil && m.Since == nil {
				m.Since = proto.Uint64(g.cfg.Index())
			}
		}
		c.id, c.since, c.changes = m.GetId(), m.Since, true
	case *pb.AbortRequest:
		c.since, c.changes = m.Since, true
	case *pb.ResolveRequest:
		c.changes = true
	}
}

// form is a message as the generated handlers read a query.
func form(m proto.Message) url.Values {
	values := url.Values{}
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(field.Name())
		if !field.IsList() {
			values.Set(name, formText(field, v))
			return true
		}
		for i := range v.List().Len() {
			values.Add(name, formText(field, v.List().Get(i)))
		}
		return true
	})
	return values
}

func formText(field protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if field.Kind() == protoreflect.EnumKind {
		return strconv.Itoa(int(v.Enum()))
	}
	if field.Kind() == protoreflect.MessageKind {
		if d, ok := v.Message().Interface().(*durationpb.Duration); ok {
			return d.AsDuration().String()
		}
	}
	return v.String()
}
