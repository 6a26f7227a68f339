// Package mysql is a participant.ResourceManager over a MariaDB or MySQL
// database: branches are XA transactions, and the journal is kept in the same
// database, so that it is written together with the data.
//
//	payments, err := mysql.Open(ctx, mysql.Options{Name: "payments", DSN: dsn, Work: charge})
//
// A branch lives on one pinned connection from XA START to its end. Package
// sqlbranch says how the journal is read; what follows is how these databases
// are made to keep it.
//
//   - I1: the database's OK proves nothing. A branch is committed when its entry,
//     read by another session, says so. MariaDB may answer OK to XA COMMIT and
//     commit nothing, when the branch's owner has only just gone.
//   - I2: so the owner finishes its branch where it can, on its own connection.
//     Otherwise the owner is ended, has left the list of sessions and InnoDB's list
//     of transactions, a grace has passed; then another session finishes the branch.
//     A branch that is lost all the same keeps its locks and is listed again after a
//     restart of the server: until then its commit is an error that is tried again
//     and alerts, never done.
//   - I3: that a branch is not listed proves nothing either. Only who holds the
//     entry's lock knows that no branch of the id is at work or prepared.
//   - I4: an error of any statement ends the branch, whether or not the work
//     passes over it: the database would prepare the branch without that statement.
//   - I5: a connection that a branch is on, or was on when something went wrong,
//     is never lent again: what a stranger does on it would join the branch.
//   - I6: only the very owner of a branch is ever ended: the session that holds
//     the user-level lock that is named after the branch.
//
// What a branch has written into its entry's row can be read by a session that
// reads uncommitted data: which attempt it is, on which session, with which
// result. So nothing is written beside the branch in the usual case: a branch
// costs what XA costs.
//
// Threading: a Manager may be used concurrently. Several processes may serve one
// participant over one database; what one has prepared another can finish.
package mysql
