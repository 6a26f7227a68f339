// Package alerting tells people outside what an operator must know of: the
// model of an alert, the webhook in the form of Alertmanager's
// POST /api/v2/alerts, and the loop that tells each alert once, repeats it
// while it stands, and tells that it is over until somebody has heard it.
//
// Nodes and participants share it. What is so is judged elsewhere and kept in a
// Book: the marks in the cluster's log for what the leader judges, a Local book
// with a small file for what a process judges of itself. A Notifier reads a
// Book, posts what is due and notes in the Book what was taken. So whoever
// takes the Book over, a new leader or the restarted process, goes on where the
// last one stood: what was told is not told again before its time, and what was
// not told is.
//
// An alert is known outside by its labels and by when it began; ids of
// transactions are in its annotations, never in labels.
package alerting
