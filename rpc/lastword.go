package rpc

import "context"

// lastWord is what a call that came to nothing tells. The last error is not
// always the one that says why: the end of ctx cuts the last try short, and a
// node that is dead has nothing to say beside one that lives and sees no leader.
type lastWord struct {
	nodes int // how many may be asked; 0: those that are silent count at once
	// word is the last error of a node that was reached, before the call was cut.
	word   *Error
	silent int // tries since then that reached nobody
}

// after notes the error of a try and returns the one to tell, should the call
// end with it. The node's clock may end a try by the call's deadline a moment
// before ours does.
func (l *lastWord) after(ctx context.Context, e *Error) *Error {
	switch cut := ctx.Err() != nil || e.Reason == ReasonDeadline || e.Reason == ReasonCancelled; {
	case !e.Retryable():
		return e
	case cut && l.word != nil:
		return l.word
	case e.Reason == ReasonUnreachable:
		if l.silent++; l.word != nil && l.silent < l.nodes {
			return l.word
		}
	default:
		l.silent = 0
	}
	l.word = e
	return e
}
