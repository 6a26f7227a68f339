package sim

import "google.golang.org/protobuf/proto"

// fresh is an empty message of reply's kind.
func fresh(reply any) any {
	if m, ok := reply.(proto.Message); ok {
		return m.ProtoReflect().New().Interface()
	}
	return reply
}
