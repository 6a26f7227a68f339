// Package bench puts a load on a running cluster and says what came of it:
// throughput, latency, aborts and refusals by reason, outcomes that were not
// learned, and whether every commit is found in the participants' data.
//
// In a closed loop each of n callers has one operation under way. In an open
// loop operations are due at times that do not depend on the answers, and the
// latency of each counts from when it was due, whether or not it could be sent
// then: a stall is seen by everything that it delays. What is due and cannot
// be sent waits in a bounded backlog; what the backlog cannot hold is counted
// as its overflow.
//
// A transaction adds 1 to a counter in each of its participants (and puts a
// value beside it), so the counters must sum up to the commits. Reads are plain
// reads of one key. Which operation is made n-th follows from the seed and n
// alone. Memory does not grow with the number of operations: there are
// histograms and counters, and a bounded queue of outcomes yet to be learned.
package bench
