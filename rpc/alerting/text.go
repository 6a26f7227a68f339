package alerting

import (
	"strings"
	"unicode/utf8"
)

// MaxText bounds, in bytes, each text of an alert that leaves the process:
// what it is made of comes from others too, as the error of a call does.
const MaxText = 1024

const cutMark = "…"

// Bounded is what is sent of a text: valid UTF-8 of at most MaxText bytes, with
// a mark at its end if there was more.
func Bounded(text string) string {
	if len(text) <= MaxText {
		return strings.ToValidUTF8(text, "")
	}
	text = strings.ToValidUTF8(text[:min(len(text), MaxText+utf8.UTFMax)], "") // what is behind is cut anyway
	end := min(len(text), MaxText-len(cutMark))
	for end > 0 && end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + cutMark
}

// bounded is what leaves the process of an alert.
func (a Alert) bounded() Alert {
	a.Summary, a.Action = Bounded(a.Summary), Bounded(a.Action)
	a.Count = max(a.Count, uint64(len(a.Transactions)))
	a.Transactions = a.Transactions[:min(len(a.Transactions), MaxTransactions)]
	return a
}
