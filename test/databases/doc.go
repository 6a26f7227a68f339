// Package databases runs transactions over PostgreSQL, MariaDB and the embedded
// KV under one decision, with everything as real processes: private database
// servers, three nodes, the ready-made agents. The databases' own lists of
// prepared transactions and their tables are the judge.
//
//	go test ./test/databases                          # all of it, the fights over locks for a few seconds
//	go test ./test/databases -contention 20s -bars -rounds 10
//	go test ./test/databases -run TestWindows -v      # also how soon branches are settled after a kill
//	go test ./test/databases -run '^$' -bench Transfers -v
package databases
