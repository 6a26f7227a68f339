// Package sqlbranch is what the resource managers of SQL databases have in
// common and no database in it: how a branch is named in the database's list
// of prepared transactions, how the journal is written down, and how what is
// found in the database's three places becomes the one participant.Entry that
// the rules of P5 and P6 judge.
//
// The places, for one transaction id of one participant:
//
//   - The entry: a row with everything but the held branch. A branch locks it
//     before it does anything else, and writes into it, in its own transaction,
//     the entry as it will be after its commit (AfterCommit). The new version is
//     invisible until the branch commits: to see it is the proof of the commit.
//     A rollback brings the old version back. The lock that a prepared branch
//     holds is the fence: no other attempt of the id is prepared behind its back.
//   - The list: the database's own list of prepared transactions (Name).
//   - The overlay: a row in no branch's transaction, with what must be remembered
//     while the entry is locked: that a newer attempt took the branch over, what
//     was refused or forgotten meanwhile, the result to repeat, and that the
//     branch is to be rolled back. Merge puts it over the entry; when the branch
//     is settled, the merged entry is written and the overlay deleted (the fold).
//     A crash between the two changes nothing that Merge sees.
//
// I1: a branch begins its work only when its id has no overlay; one that is left
// is folded before. I2: the order of the writes of a rollback is overlay (Undone),
// database, fold, so that a branch that is gone and shows no commit was rolled
// back by us if the overlay says so, and by a stranger if not.
package sqlbranch
