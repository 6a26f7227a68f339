package crash

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestEveryMethodHasPoints: a method of any service is a message of the
// protocol with points, or is exempt with a reason, and not both.
func TestEveryMethodHasPoints(t *testing.T) {
	with, without := map[string]bool{}, map[string]bool{}
	for _, c := range failpoint.Calls {
		with[c.Method] = true
	}
	for _, e := range failpoint.Exempt {
		without[e.Method] = true
		if e.Why == "" {
			t.Errorf("%s is exempt and does not say why", e.Method)
		}
	}
	methods := map[string]bool{}
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_concordat_v1_coordinator_proto, pb.File_concordat_v1_participant_proto, pb.File_concordat_v1_kv_proto,
	} {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				name := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())
				methods[name] = true
				if with[name] == without[name] {
					t.Errorf("%s: has points: %v; is exempt: %v", name, with[name], without[name])
				}
			}
		}
	}
	for name := range with {
		if name != "" && !methods[name] { // Raft's have none
			t.Errorf("%s has points and is no method", name)
		}
	}
	for name := range without {
		if !methods[name] {
			t.Errorf("%s is exempt and is no method", name)
		}
	}
}
