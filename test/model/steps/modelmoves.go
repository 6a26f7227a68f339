package steps

import "strconv"

// ModelMoves are the moves for one event of test/model's Promela model of
// attempts, by its kind and its arguments. What the product does by itself
// (propose, tell, answer) is no move; what it cannot do at all (a proposal made
// late, in a term of later) is none either, and Replay passes over what is not
// possible when its turn comes.
//
//	submit a current digest    Submit, by the leader or the deposed one
//	elect kept                 Elect
//	apply what                 ApplyNext
//	prepared, takeover p a     Prepare
//	refuse p a                 VoteNo, Prepare
//	vote, ack p a              Vote, Ack
//	commit p a                 CommitTo, or by Inquire
//	rollback, tombstone p a    RollbackTo, or by Inquire
//	crash p                    Crash
//	propose what=abort         Deadline
//	propose what=forget        ApplyNext of the Finish, ForgetID
func ModelMoves(kind string, arg func(key string) string) []Move {
	number := func(key string) int {
		n, err := strconv.Atoi(arg(key))
		if err != nil {
			return 0
		}
		return n
	}
	m := Move{Attempt: number("a"), Party: number("p")}
	with := func(verbs ...Verb) []Move {
		var list []Move
		for _, v := range verbs {
			m.Do = v
			list = append(list, m)
		}
		return list
	}
	switch kind {
	case "submit":
		if m.Content = number("digest"); number("current") == 0 {
			m.Node = Deposed
		}
		return with(Submit)
	case "elect":
		m.Keep = number("kept")
		return with(Elect)
	case "apply":
		m.What = arg("what")
		return with(ApplyNext)
	case "prepared", "takeover":
		return with(Prepare)
	case "refuse":
		return with(VoteNo, Prepare)
	case "vote":
		return with(Vote)
	case "ack":
		return with(Ack)
	case "commit":
		return with(CommitTo, Inquire)
	case "rollback", "tombstone":
		return with(RollbackTo, Inquire)
	case "crash":
		return with(Crash)
	case "propose":
		switch arg("what") {
		case "abort":
			return with(Deadline)
		case "forget":
			return append([]Move{{Do: ApplyNext, What: "finish"}}, with(ForgetID)...)
		}
	}
	return nil
}
