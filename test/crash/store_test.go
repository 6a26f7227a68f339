package crash

import (
	"bytes"
	endian "encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node/local"
)

// mends starts a node whose last write to the log lost power in its middle.
func (w *world) mends(point string) []*tx {
	w.t.Helper()
	n := w.follower()
	if err := n.Kill(); err != nil {
		w.t.Fatal(err)
	}
	w.tear(n.ID)
	w.restart(n.Process, armedAt(point))
	w.awaitDeath(n.Process, point)
	w.restart(n.Process)
	return w.workload()
}

// tear writes the beginning of an entry of 3000 bytes behind the log's end, as
// far as the sector goes.
func (w *world) tear(node string) {
	w.t.Helper()
	list, err := filepath.Glob(filepath.Join(w.dir, node, "raft.wal", "*.wal"))
	if err != nil || len(list) == 0 {
		w.t.Fatal(list, err)
	}
	path := list[len(list)-1]
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	const header, frame, sector, n = 32, 8, 512, 3000
	at := max((len(bytes.TrimRight(b, "\x00"))+7)&^7, header)
	if at%sector > sector-2*frame {
		w.t.Skipf("SKIPPED: the log of %s ends with a sector", node)
	}
	torn := endian.LittleEndian.AppendUint32([]byte{1, 0, 0, 0}, n)
	torn = endian.LittleEndian.AppendUint32(torn, n-frame)
	torn = append(torn, bytes.Repeat([]byte{0xA5}, sector-at%sector-len(torn))...)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(torn, int64(at))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// migration lets 'concordat data migrate-log' die at a point. The node starts
// with the store that it had or the one it gets, and the other is refused with
// the word for it; the migration is repeated, and undone by another one.
func (w *world) migration(point string) []*tx {
	t := w.t
	t.Helper()
	n := w.follower()
	to := cluster.Bolt
	if w.store == to {
		to = cluster.WAL
	}
	args := func(to cluster.LogStore) []string {
		return []string{"data", "migrate-log", "--data-dir", filepath.Join(w.dir, n.ID), "--to", string(to), "--segment-bytes", segmentBytes}
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	tool := local.NewProcess("migration", binary, w.dir, args(to), w.config().Env)
	w.restart(tool, armedAt(point))
	w.awaitDeath(tool, point)

	has, not := w.store, to // until node.json says otherwise
	if strings.HasPrefix(point, "node.migrate.away.") {
		has, not = to, w.store
	}
	w.refuses(n, not, has)
	w.restart(n.Process, inStore(has))
	txs := w.workload()
	for _, to := range []cluster.LogStore{to, w.store} {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(within(t, time.Minute), binary, args(to)...).CombinedOutput(); err != nil {
			t.Errorf("to %s: %v\n%s", to, err, out)
		}
		w.restart(n.Process, inStore(to))
		txs = append(txs, w.workload()...)
	}
	return txs
}

// refuses starts a node with a store that its directory does not have.
func (w *world) refuses(n *local.Node, not, has cluster.LogStore) {
	w.t.Helper()
	cmd := exec.CommandContext(within(w.t, time.Minute), binary, n.Args()...)
	cmd.Env = append(os.Environ(), inStore(not))
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("--log-store "+string(has))) {
		w.t.Errorf("%s with log store %s: %v\n%s", n.ID, not, err, out)
	}
}
