package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/concordat-tx/concordat/rpc/pb"
)

type object = map[string]any

const (
	about = "Transactions over several participants, which commit everywhere or nowhere. Every node answers; what only the leader can do " +
		"is forwarded to it. An abort is an answer (200), not an error. 64-bit integers are strings in responses; requests take both. " +
		"Requests are read strictly: a field or parameter that is unknown, stands twice or is of the wrong type is refused."
	durationPattern = `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`
	durationExample = "1m30s"
)

// requests are the schemas of bodies: nothing but their fields is taken.
var requests = []string{
	"SubmitRequest", "Branch", "AbortBody", "ResolveBody", "AddParticipantRequest", "TransferLeadershipRequest", "NoBody",
}

// optionalBodies are operations whose body may be left out.
var optionalBodies = []string{"Abort", "Retry", "RetryParticipant", "TransferLeadership"}

// correct turns protobuf's own JSON into that of the gateway.
func correct(doc object) error {
	doc["info"] = object{"title": "Concordat", "version": "v1", "description": about}
	schemas := at(doc, "components", "schemas")
	if schemas == nil {
		return fmt.Errorf("no schemas")
	}
	correctRequests(schemas)
	correctResponses(schemas)
	at(doc, "components")["parameters"] = object{"RequestTimeout": object{
		"name": "Request-Timeout", "in": "header", "schema": duration(""),
		"description": "How long to wait for the answer, 1ms to 1h; 30s if it is not given. The transaction goes on without the one who waits.",
	}}
	paths, _ := doc["paths"].(object)
	for path, item := range paths {
		methods, _ := item.(object)
		for _, operation := range methods {
			op, ok := operation.(object)
			if !ok {
				return fmt.Errorf("%s: no operation", path)
			}
			correctOperation(path, op)
		}
	}
	return nil
}

// at walks down to an object; nil if there is none.
func at(o object, names ...string) object {
	for _, name := range names {
		o, _ = o[name].(object)
	}
	return o
}

func duration(description string) object {
	return object{"type": "string", "pattern": durationPattern, "example": durationExample, "description": description}
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func correctRequests(schemas object) {
	schemas["NoBody"] = object{"type": "object"}
	delete(schemas, "RetryBody")
	payload := at(schemas, "Branch", "properties")
	payload["payload"] = object{"nullable": true, "description": "Any JSON; it travels as it stands here. " + text(at(payload, "payload"))}
	at(schemas, "Branch")["required"] = []string{"participant", "payload"}
	at(schemas, "SubmitRequest")["required"] = []string{"branches"}
	at(schemas, "AddParticipantRequest")["required"] = []string{"name", "endpoints"}
	timeout := at(schemas, "SubmitRequest", "properties")
	timeout["timeout"] = duration(text(at(timeout, "timeout")))
	for _, name := range []string{"SubmitRequest", "AbortBody"} {
		since := at(schemas, name, "properties")
		since["since"] = object{"description": text(at(since, "since")), "oneOf": []any{
			object{"type": "integer", "minimum": 0}, object{"type": "string", "pattern": "^[0-9]+$"},
		}}
	}
	for _, name := range requests {
		at(schemas, name)["additionalProperties"] = false
	}
}

func text(schema object) string {
	s, _ := schema["description"].(string)
	return s
}

func correctResponses(schemas object) {
	delete(schemas, "Any")
	delete(schemas, "rpc.Status")
	schemas["Error"] = object{
		"type": "object", "required": []string{"code", "message", "details"},
		"properties": object{
			"code":    object{"type": "string", "description": "A canonical gRPC code.", "example": "INVALID_ARGUMENT"},
			"message": object{"type": "string", "description": "What happened and what to do."},
			"details": object{
				"type": "object", "required": []string{"reason"}, "additionalProperties": object{"type": "string"},
				"description": "The reason, and where they apply: field and limit, txn and since, participant, leader_id and leader_address.",
				"properties":  object{"reason": object{"type": "string"}},
			},
		},
	}
	branch := at(schemas, "BranchStatus", "properties")
	branch["result"] = object{"nullable": true, "description": "What the branch read: any JSON, as the participant wrote it."}
	branch["result_base64"] = object{"type": "string", "format": "byte", "description": "A result that is not JSON."}
	branch["next_try"] = object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]+)?s$`, "description": text(at(branch, "next_try"))}
	messages := []protoreflect.MessageDescriptors{
		pb.File_concordat_v1_coordinator_proto.Messages(), pb.File_concordat_v1_types_proto.Messages(),
	}
	for _, list := range messages {
		for i := range list.Len() {
			requireFields(schemas, list.Get(i))
		}
	}
}

// requireFields names the fields that a response always has: defaults are written.
func requireFields(schemas object, m protoreflect.MessageDescriptor) {
	schema := at(schemas, string(m.Name()))
	if schema == nil || strings.HasSuffix(string(m.Name()), "Request") || m.Name() == "Branch" || m.Name() == "WatchEvent" {
		return
	}
	var required []string
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.IsList() || !f.HasPresence() && f.Kind() != protoreflect.BytesKind {
			required = append(required, string(f.Name()))
		}
	}
	if required != nil {
		schema["required"] = required
	}
}

func correctOperation(path string, op object) {
	if op["operationId"] == "Retry2" {
		op["operationId"] = "RetryParticipant"
	}
	parameters, _ := op["parameters"].([]any)
	for _, p := range parameters {
		parameter, _ := p.(object)
		correctParameter(parameter)
	}
	if path != "/v1/transactions:watch" {
		parameters = append(parameters, object{"$ref": "#/components/parameters/RequestTimeout"})
	} else {
		parameters = append(parameters, object{
			"name": "Last-Event-ID", "in": "header", "schema": object{"type": "string"},
			"description": "What a browser that connects again sends: the id of the last event. It goes before resume.",
		})
		at(op, "responses")["200"] = object{
			"description": "Server-sent events. id is the token, event is changed, existing, bookmark or error, data is a WatchEvent as one line of JSON.",
			"content":     object{"text/event-stream": object{"schema": object{"type": "string"}}},
		}
	}
	op["parameters"] = parameters
	at(op, "responses")["default"] = object{
		"description": "An error. 503 and 429 say in Retry-After when to try again.",
		"content":     object{"application/json": object{"schema": ref("Error")}},
	}
	body := at(op, "requestBody")
	if body == nil {
		return
	}
	body["required"] = true
	for _, id := range optionalBodies {
		if op["operationId"] == id {
			body["required"] = false
		}
	}
	if strings.HasSuffix(path, ":retry") {
		at(body, "content", "application/json")["schema"] = ref("NoBody")
	}
}

// correctParameter gives queries the words of rpc/jsonform.
func correctParameter(p object) {
	switch p["name"] {
	case "states":
		p["name"], p["style"], p["explode"] = "state", "form", true
		at(p, "schema")["items"] = object{"type": "string", "enum": []string{
			"preparing", "committing", "aborting", "committed", "aborted", "unfinished",
		}}
	case "order":
		p["description"] = "By id, or by the place of Begin in the log."
		p["schema"] = object{"type": "string", "enum": []string{"id", "oldest", "newest"}, "default": "id"}
	case "min_age":
		p["schema"] = duration("")
	case "limit":
		p["schema"] = object{"type": "integer", "minimum": 0, "maximum": 1000}
	}
}
