// Package kvop is the wire format of the embedded KV's branches: a payload is
// JSON, {"ops": [{"op": "add", "key": "acct/ann", "delta": -120, "min": 0}]},
// and so is the result of its gets. It is pure parsing and validation, shared
// by the participant that runs the operations, the nodes that admit them and
// the tools that write them.
//
// Parsing is strict, because what is read loosely by one and strictly by
// another is a transaction that half the system understands: unknown,
// duplicate and missing fields, numbers that are not 64-bit integers and data
// behind the payload are refused by name. A number is never turned into a float.
package kvop
