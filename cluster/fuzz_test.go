package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzDataDir opens a directory whose two files are made of chance. It is
// refused with an error that names the file or its directory, or what was read
// is the whole of both files, and comes back when it is written again.
func FuzzDataDir(f *testing.F) {
	const (
		node  = `{"format":1,"id":"n1","incarnation":"i1","cluster_id":"c1","bootstrapped":true}`
		peers = `{"format":1,"peers":{"n2":"i2","n3":"i3"}}`
	)
	f.Add([]byte(node), []byte(peers))
	f.Add([]byte(node), []byte(nil))
	for _, odd := range []string{
		``, `null`, `{}`, `[]`, `{"format":1}`, `{"format":2}`, `{"format":1,"id":"n1"}`, node[:40],
		node + node, node + `}`, node + "\x00", strings.Replace(node, "bootstrapped", "bootstrapped2", 1),
	} {
		f.Add([]byte(odd), []byte(peers))
	}
	for _, odd := range []string{
		`null`, `{}`, `[]`, `{"format":1}`, `{"format":2,"peers":{}}`, `{"peers":{"n2":"i2"}}`, `{"format":1,"peers":null}`,
		`{"format":1,"peers":{"n2":""}}`, `{"format":1,"peers":{"n2":null}}`, peers[:20], peers + peers, peers + "x",
	} {
		f.Add([]byte(node), []byte(odd))
	}
	f.Fuzz(func(t *testing.T, node, peers []byte) {
		dir := t.TempDir()
		files := map[string][]byte{nodeFile: node, peersFile: peers}
		for name, content := range files {
			if name == peersFile && len(content) == 0 {
				continue // a node that has met nobody
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := openDataDir(dir, "n1", Bolt)
		if err != nil {
			if !strings.Contains(err.Error(), dir) {
				t.Errorf("the error does not say where: %v", err)
			}
			for name, content := range files {
				if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != string(content) {
					t.Errorf("a directory that was refused has another %s: %q", name, got)
				}
			}
			return
		}
		t.Cleanup(func() { _ = d.close() })
		for name, content := range files {
			if len(content) > 0 && !json.Valid(content) {
				t.Errorf("half of %s was read: %q", name, content)
			}
		}
		var wrote map[string]any
		if len(peers) > 0 && (json.Unmarshal(peers, &wrote) != nil || len(d.peers) == 0) {
			t.Errorf("%q is a file of no peers", peers)
		}
		for id := range d.peers {
			if d.known(id) == "" {
				t.Errorf("%q: peer %q was met and has no incarnation", peers, id)
			}
		}
		comesBack(t, d)
	})
}

// comesBack writes what d has read and reads it again.
func comesBack(t *testing.T, d *dataDir) {
	t.Helper()
	if err := writeJSON(d.file(nodeFile), d.identity); err != nil {
		t.Fatal(err)
	}
	if len(d.peers) > 0 {
		if err := writeJSON(d.file(peersFile), peersRecord{Format: dataFormat, Peers: d.peers}); err != nil {
			t.Fatal(err)
		}
	}
	again := &dataDir{path: d.path}
	if err := again.load("n1", Bolt); err != nil || again.identity != d.identity || !reflect.DeepEqual(again.peers, d.peers) {
		t.Errorf("%+v %v came back as %+v %v, %v", d.identity, d.peers, again.identity, again.peers, err)
	}
}
