// Package postgres makes a PostgreSQL database a participant: a
// participant.ResourceManager over PREPARE TRANSACTION. Branches are statements
// in the payload (the agent's way) or a function over pgx.Tx (Options.Work).
//
// A database's OK is no proof. What PostgreSQL says is held against its own
// tables, in the schema concordat (see Schema), by the rules of package
// sqlbranch: every branch writes, in its own transaction, the row that proves
// its commit, and locks with it everybody else out of its transaction id until
// it is settled. What that is for, each measured:
//
//   - PREPARE TRANSACTION in a failed transaction rolls back and reports no
//     error: the command tag is looked at (see prepareTransaction).
//   - A PREPARE may end long after its client has died: whoever needs to know
//     that a branch can never be prepared must get the lock on its row, and ends
//     the session that has it (see settleAbsent).
//   - 42704 after COMMIT PREPARED means that the branch is gone, by anybody's
//     hand: only the row tells commit from rollback, and only the number of the
//     branch's transaction a rollback by hand from nothing at all (see witness).
//
// Several processes may serve one participant over one database. What they do
// about one id to a prepared branch they do one after the other, under an
// advisory lock of the session. Sessions are used over several statements, so
// the address must be PostgreSQL's own or that of a pooler in session mode.
//
// Statements that are known beforehand are sent ahead of the answers to those before
// them (see ahead), with PREPARE behind them where the server can judge (see whole),
// and commits share their locks and proofs (see commitAll). These are short ways of
// the usual; what is otherwise goes step by step (carefully, settle).
//
// Durability: PREPARE, COMMIT PREPARED and ROLLBACK PREPARED always wait for the
// log to be on disk, and with it for everything that was written before; so what
// only has to be durable with the next of them is written without waiting
// (synchronous_commit = off, for that transaction alone).
package postgres
