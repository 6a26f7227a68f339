package gateway

import _ "embed"

// spec is the description of the interface, made from the protos.
//
//go:embed openapi.json
var spec []byte
