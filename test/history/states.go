package history

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// State is what the coordinator tells of an id.
type State string

// The states, as a transaction goes through them. It may skip some, for who
// looks, and never goes back.
const (
	StateNotFound   State = "NOT_FOUND"
	StatePreparing  State = "PREPARING"
	StateCommitting State = "COMMITTING"
	StateCommitted  State = "COMMITTED"
	StateAborting   State = "ABORTING"
	StateAborted    State = "ABORTED"
)

// StateOp is one answer about an id: the state, or, with AtLeast, a decision
// that was told and that it may since have carried out.
type StateOp struct {
	ID           string
	State        State
	AtLeast      bool
	Call, Return int64
}

// CheckStates looks, id by id, for an order of the answers in which the state
// never goes back and a decision never changes.
func CheckStates(ops []StateOp, limit time.Duration) *Searched {
	histories := map[string][]porcupine.Operation{}
	for _, op := range ops {
		o := porcupine.Operation{Input: op.AtLeast, Output: op.State, Call: op.Call, Return: op.Return}
		histories["transaction "+op.ID] = append(histories["transaction "+op.ID], o)
	}
	return search(stateModel, histories, limit)
}

// later are the states that may follow each.
var later = map[State][]State{
	StateNotFound:   {StatePreparing, StateCommitting, StateCommitted, StateAborting, StateAborted},
	StatePreparing:  {StateCommitting, StateCommitted, StateAborting, StateAborted},
	StateCommitting: {StateCommitted},
	StateAborting:   {StateAborted},
}

func reaches(from, to State) bool {
	if from == to {
		return true
	}
	for _, s := range later[from] {
		if s == to {
			return true
		}
	}
	return false
}

// stateModel has as its state the last one that was told: the transaction may
// have moved on, and is never behind it.
var stateModel = porcupine.Model{
	Init: func() any { return StateNotFound },
	Step: func(state, input, output any) (bool, any) {
		had, told := state.(State), output.(State)
		if reaches(had, told) {
			return true, told
		}
		return input.(bool) && reaches(told, had), had
	},
	DescribeOperation: func(input, output any) string {
		if input.(bool) {
			return fmt.Sprintf("at least %s", output)
		}
		return fmt.Sprint(output)
	},
}
