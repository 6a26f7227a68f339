package conform

// needs are what a check cannot do without.
type needs int

const (
	crash    needs = 1 << iota // a Process to kill
	ask                        // a Listener where the participant asks
	effects                    // operations whose effects can be read
	onePhase                   // a participant that commits in one phase
)

// Check is one demand of the suite.
type Check struct {
	// Name is stable: group/what.
	Name string
	// Rule is the rule of docs/protocol.md that it is about.
	Rule string
	// Why says what goes wrong for the users of a participant that fails.
	Why string
}

type check struct {
	Check
	needs needs
	// together: it mostly waits, and does so beside its neighbours.
	together bool
	run      func(t *trial)
}

// Checks lists every check in the order in which they are made.
func Checks() []Check {
	var list []Check
	for _, c := range checks() {
		list = append(list, c.Check)
	}
	return list
}

func checks() []check {
	var all []check
	for _, group := range [][]check{
		describeChecks(), prepareChecks(), commitChecks(), rollbackChecks(), attemptChecks(), inputChecks(),
		crowdChecks(), fenceChecks(), floorChecks(), inquiryChecks(), crashChecks(), onePhaseChecks(), generationChecks(),
	} {
		all = append(all, group...)
	}
	return all
}

// one makes a check.
func one(name, rule string, needs needs, why string, run func(t *trial)) check {
	return check{Check: Check{Name: name, Rule: rule, Why: why}, needs: needs, run: run}
}

// waiting makes a check that waits for what the participant does by itself.
func waiting(name, rule string, needs needs, why string, run func(t *trial)) check {
	c := one(name, rule, needs, why, run)
	c.together = true
	return c
}
