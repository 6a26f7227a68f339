package http

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// description is the OpenAPI document that a node serves, which every request
// that is accepted and every response of these tests is held against.
type description struct {
	doc    *openapi3.T
	routes []described
	errors *openapi3.Schema
}

type described struct {
	matches *regexp.Regexp
	route   routers.Route
	names   []string // of the path's parameters
}

var pathParameter = regexp.MustCompile(`\{([a-z_]+)\}`)

// describe reads the document. A response may hold nothing that is not in it,
// which the document itself leaves open for the sake of later versions.
func describe(t testing.TB, text []byte) *description {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatalf("/openapi.json: %v", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatalf("/openapi.json: %v", err)
	}
	closed := false
	for _, s := range doc.Components.Schemas {
		if s.Value.Type.Is("object") && s.Value.AdditionalProperties.Has == nil && s.Value.AdditionalProperties.Schema == nil {
			s.Value.AdditionalProperties.Has = &closed
		}
	}
	d := &description{doc: doc, errors: doc.Components.Schemas["Error"].Value}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			one := described{
				matches: regexp.MustCompile("^" + pathParameter.ReplaceAllString(path, "([^/:]+)") + "$"),
				route:   routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: op},
			}
			for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
				one.names = append(one.names, m[1])
			}
			d.routes = append(d.routes, one)
		}
	}
	return d
}

// find is the operation of a request, nil if none is described.
func (d *description) find(method, path string) (*routers.Route, map[string]string) {
	for _, r := range d.routes {
		m := r.matches.FindStringSubmatch(path)
		if m == nil || r.route.Method != method {
			continue
		}
		values := map[string]string{}
		for i, name := range r.names {
			values[name] = m[i+1]
		}
		return &r.route, values
	}
	return nil, nil
}

// check holds an exchange against the document. Pages that are no JSON are not in it.
func (d *description) check(req *http.Request, body string, r response) error {
	if r.status != http.StatusOK {
		return d.checkError(r)
	}
	in, err := d.input(req, body)
	if err != nil {
		return err
	}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
		return fmt.Errorf("a request that is not as described was accepted: %w", err)
	}
	return d.checkResponse(in, r)
}

func (d *description) input(req *http.Request, body string) (*openapi3filter.RequestValidationInput, error) {
	route, path := d.find(req.Method, req.URL.Path)
	if route == nil {
		return nil, fmt.Errorf("%s %s was answered and is not described", req.Method, req.URL.Path)
	}
	req = req.Clone(context.Background())
	req.Body = io.NopCloser(strings.NewReader(body))
	return &openapi3filter.RequestValidationInput{Request: req, PathParams: path, Route: route}, nil
}

func (d *description) checkResponse(in *openapi3filter.RequestValidationInput, r response) error {
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: r.status, Header: r.header}
	out.SetBodyBytes([]byte(r.body))
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		return fmt.Errorf("a response is not as described: %w", err)
	}
	return nil
}

// statuses are the HTTP statuses that a code may come with.
var statuses = map[string][]int{
	"INVALID_ARGUMENT": {400, 413, 415, 421}, "NOT_FOUND": {404}, "ALREADY_EXISTS": {409}, "FAILED_PRECONDITION": {409},
	"RESOURCE_EXHAUSTED": {429}, "CANCELLED": {499}, "DEADLINE_EXCEEDED": {504}, "UNAVAILABLE": {503}, "UNKNOWN": {503},
	"UNIMPLEMENTED": {405},
}

// checkError holds an error against the document and against the promises that
// no schema can state: a code of the table, and the field with its limit.
func (d *description) checkError(r response) error {
	if kind := r.header.Get("Content-Type"); kind != "application/json" {
		return fmt.Errorf("%d comes as %q: %.200q", r.status, kind, r.body)
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader([]byte(r.body)))
	if err := dec.Decode(&value); err != nil {
		return fmt.Errorf("%d is not JSON: %.200q: %w", r.status, r.body, err)
	}
	if err := d.errors.VisitJSON(value); err != nil {
		return fmt.Errorf("an error is not as described: %.300q: %w", r.body, err)
	}
	var e wireError
	if err := json.Unmarshal([]byte(r.body), &e); err != nil {
		return err
	}
	switch {
	case !slices.Contains(statuses[e.Code], r.status):
		return fmt.Errorf("code %s with status %d: %.300q", e.Code, r.status, r.body)
	case e.Code == "INVALID_ARGUMENT" && (e.Details["field"] == "" || e.Details["limit"] == ""):
		return fmt.Errorf("no field or no limit: %.300q", r.body)
	case e.Message == "":
		return fmt.Errorf("no message: %.300q", r.body)
	case (r.status == 503 || r.status == 429) && r.header.Get("Retry-After") == "":
		return fmt.Errorf("%d without Retry-After: %.300q", r.status, r.body)
	}
	return nil
}

// wireError is an error as a client reads it.
type wireError struct {
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Details map[string]string `json:"details"`
}

// failure reads an error.
func (r response) failure(t testing.TB) wireError {
	t.Helper()
	var e wireError
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || r.err != nil {
		t.Fatalf("status %d, no error: %q: %v, %v", r.status, r.body, err, r.err)
	}
	return e
}
