package history

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// RegisterOp is a set or a read of one key that is known to have happened. An
// absent key reads as "".
type RegisterOp struct {
	Key          string
	Set          bool
	Value        string
	Call, Return int64
}

// CheckRegisters looks, key by key, for an order in which every read gives what
// was set last. It spends at most limit on a key.
func CheckRegisters(ops []RegisterOp, limit time.Duration) *Searched {
	histories := map[string][]porcupine.Operation{}
	for _, op := range ops {
		o := porcupine.Operation{Input: op.Set, Output: op.Value, Call: op.Call, Return: op.Return}
		histories["register "+op.Key] = append(histories["register "+op.Key], o)
	}
	return search(registerModel, histories, limit)
}

// registerModel has the value as its state. The input is whether it is set.
var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if input.(bool) {
			return true, output
		}
		return state == output, state
	},
	DescribeOperation: func(input, output any) string {
		if input.(bool) {
			return fmt.Sprintf("set %q", output)
		}
		return fmt.Sprintf("read %q", output)
	},
}
