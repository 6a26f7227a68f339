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

// FloorMoves are the moves for one event of the model of the floor, with one
// participant and two ids; id is that of the attempt, as its submit named it. What
// ModelMoves says of events goes for these, too. The model aborts when it likes:
// that is left to the caller.
//
//	submit a id       Submit, by the leader or the deposed one
//	apply forget      ForgetID, ApplyNext
//	arrives a         Prepare: one that a slow worker has at hand
//	floor, drop       ForgetAt
func FloorMoves(kind string, arg func(key string) string, id int) []Move {
	switch kind {
	case "submit":
		number, _ := strconv.Atoi(arg("a")) // a model prints numbers
		return []Move{{Do: Submit, Attempt: number, ID: id}}
	case "apply":
		next := Move{Do: ApplyNext, What: arg("what")}
		if next.What == "forget" {
			return []Move{{Do: ForgetID}, next}
		}
		return []Move{next}
	case "arrives":
		return ModelMoves("prepared", arg)
	case "floor", "drop":
		return []Move{{Do: ForgetAt}}
	}
	return ModelMoves(kind, arg)
}
