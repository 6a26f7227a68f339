package cluster

import (
	"os"
)

// readAheadBytes is how much of raft.db is read in its order when a node starts.
const readAheadBytes = 256 << 20

// readAhead brings a file into the system's cache. After a machine's restart
// raft.db is read whole, entry by entry, and bbolt has the system read one page at
// a time: that is thousands of small reads here and there, and on a disk that
// others use 18 s were seen for it. In its order it is a few large ones. What goes
// wrong here, whoever reads the file next meets and names.
func readAhead(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	buffer := make([]byte, 1<<20)
	for left := readAheadBytes; left > 0; {
		n, err := f.Read(buffer)
		if left -= n; err != nil {
			return
		}
	}
}
