// Package gateway is the HTTP form of a node's services: /v1/… is translated
// to calls of the gRPC services and back, by the handlers that are generated
// from the protos and from http.yaml (in pb). The form of requests and
// responses is that of rpc/jsonform.
//
// The gateway reaches the services of its own process through an in-memory
// connection: every call takes the path of a gRPC call, with its checks,
// limits and interceptors, and needs neither a port nor credentials for it.
//
// An error is {"code", "message", "details"}: a canonical gRPC code, what
// happened and what to do, and in the details the reason of the rpc package
// with the field, the limit and the transaction where there are some. An abort
// is an answer, and so HTTP 200.
package gateway
