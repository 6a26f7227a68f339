package mysql

// Codes of MariaDB's and MySQL's errors that something is done about.
const (
	errNotNull        = 1048
	errDuplicate      = 1062
	errTableExists    = 1050
	errTooMany        = 1040
	errDatabaseDenied = 1044
	errNoSuchThread   = 1094
	errKillDenied     = 1095
	errTableDenied    = 1142
	errNoSuchTable    = 1146
	errLockTimeout    = 1205
	errDeadlock       = 1213
	errXaNotA         = 1397 // XAER_NOTA
	errXaRolledBack   = 1402 // XA_RBROLLBACK
	errXaDuplicate    = 1440 // XAER_DUPID
	errNoWait         = 3572 // MySQL: NOWAIT
)
