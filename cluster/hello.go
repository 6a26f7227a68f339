package cluster

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// Every connection between nodes begins with three frames: the dialer's hello,
// the other's hello, the dialer's verdict. Only then does Raft speak on it. So
// a wiped node, a node of another cluster or a wrong address is found out
// before a vote or an entry passes.
//
// A frame is four bytes of magic, one of version, two of length, and JSON.

const (
	helloMagic   = "CCDR"
	helloVersion = 1
	maxHello     = 4 << 10
)

// hello is what a node says of itself. In a verdict only Refusal matters.
type hello struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
	// ClusterID is empty while the node has not learned it.
	ClusterID string `json:"cluster_id,omitempty"`
	// Probe: the connection ends after the verdict.
	Probe   bool     `json:"probe,omitempty"`
	Refusal *refusal `json:"refusal,omitempty"`
}

type refusalCode string

const (
	refusedIncarnation refusalCode = "OTHER_INCARNATION"
	refusedCluster     refusalCode = "OTHER_CLUSTER"
	refusedUnknown     refusalCode = "UNKNOWN_NODE"
	refusedWrongNode   refusalCode = "WRONG_NODE"
	refusedVersion     refusalCode = "OTHER_VERSION"
	refusedBroken      refusalCode = "NOT_READY"
)

// refusal says why a node will not talk to another. Message is for people.
type refusal struct {
	Code    refusalCode `json:"code"`
	Message string      `json:"message"`
}

const replaceProcedure = "a node that lost its data must not come back under its old id, because it may have voted: " +
	"remove the member from the cluster, then start a node with a new id and a new, empty data directory"

// refusedError is a handshake that ended in a refusal, ours or theirs.
type refusedError struct {
	refusal
	peer string // id, or address if it did not say
	ours bool
}

func (e *refusedError) Error() string {
	if e.ours {
		return fmt.Sprintf("refused node %s: %s", e.peer, e.Message)
	}
	return fmt.Sprintf("refused by node %s: %s", e.peer, e.Message)
}

func writeHello(w io.Writer, h hello) error {
	body, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	if len(body) > maxHello {
		return fmt.Errorf("encode hello: %d bytes, at most %d", len(body), maxHello)
	}
	frame := append([]byte(helloMagic), helloVersion, 0, 0)
	binary.BigEndian.PutUint16(frame[len(helloMagic)+1:], uint16(len(body)))
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	return nil
}

// errHelloVersion is a frame of another version of this handshake.
var errHelloVersion = errors.New("another version of the node protocol")

func readHello(r io.Reader) (hello, error) {
	var head [len(helloMagic) + 3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return hello{}, fmt.Errorf("receive hello: %w", err)
	}
	if string(head[:len(helloMagic)]) != helloMagic {
		return hello{}, errors.New("receive hello: the other side is no node of this program")
	}
	size := binary.BigEndian.Uint16(head[len(helloMagic)+1:])
	if size > maxHello {
		return hello{}, fmt.Errorf("receive hello: %d bytes, at most %d", size, maxHello)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return hello{}, fmt.Errorf("receive hello: %w", err)
	}
	if v := head[len(helloMagic)]; v != helloVersion {
		return hello{}, fmt.Errorf("%w: %d, this program speaks %d", errHelloVersion, v, helloVersion)
	}
	var h hello
	if err := json.Unmarshal(body, &h); err != nil {
		return hello{}, fmt.Errorf("receive hello: %w", err)
	}
	return h, nil
}

// doorman carries out the handshake for one node.
type doorman struct {
	dir *dataDir
	// member tells whether an id belongs to the cluster; idAt, who is to be
	// found at an address.
	member func(id string) bool
	idAt   func(address string) string
	// refused is called with every refusal of this node by another.
	refused func(*refusedError)
	// admitted is called with every peer that passed.
	admitted func(id string)
	// lost is called with a peer whose last connection to this node has ended.
	lost func(id string)
}

func (d *doorman) hello(probe bool) hello {
	self := d.dir.self()
	return hello{Node: self.ID, Incarnation: self.Incarnation, ClusterID: self.ClusterID, Probe: probe}
}

// judge decides about the other side's hello and durably records whom it met.
// expected is "" on the receiving side.
func (d *doorman) judge(h hello, expected string) *refusal {
	self := d.dir.self()
	switch {
	case h.Node == "" || len(h.Node) > 64 || h.Incarnation == "" || len(h.Incarnation) > 64:
		return &refusal{refusedBroken, "it does not say who it is"}
	case expected != "" && h.Node != expected:
		return &refusal{refusedWrongNode, fmt.Sprintf("node %q answers at the address of %q: correct the addresses in --peers", h.Node, expected)}
	case h.Node == self.ID:
		return &refusal{refusedWrongNode, fmt.Sprintf("two nodes are called %q: give every node an id of its own", h.Node)}
	case self.ClusterID != "" && h.ClusterID != "" && h.ClusterID != self.ClusterID:
		return &refusal{refusedCluster, fmt.Sprintf("node %q belongs to cluster %s, node %q to cluster %s: correct --peers or --data-dir",
			h.Node, h.ClusterID, self.ID, self.ClusterID)}
	case !d.member(h.Node):
		return &refusal{refusedUnknown, fmt.Sprintf("node %q is no member of the cluster of node %q: add it to --peers of a new cluster, or to the members of this one", h.Node, self.ID)}
	}
	other, err := d.dir.meet(h.Node, h.Incarnation)
	if err != nil {
		return &refusal{refusedBroken, fmt.Sprintf("node %q cannot record whom it met: %v", self.ID, err)}
	}
	if other != "" {
		return &refusal{refusedIncarnation, fmt.Sprintf("node %q knows %q by incarnation %s, not %s: the data directory of %q was wiped or exchanged",
			self.ID, h.Node, other, h.Incarnation, h.Node)}
	}
	return nil
}

// greet is the dialer's side.
func (d *doorman) greet(conn net.Conn, address string, probe bool, deadline time.Time) error {
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("greet %s: %w", address, err)
	}
	expected := d.idAt(address)
	if expected == "" {
		return fmt.Errorf("greet %s: no member has this address", address)
	}
	failpoint.Hit("dialer.hello.send.before")
	if err := writeHello(conn, d.hello(probe)); err != nil {
		return fmt.Errorf("greet %s: %w", address, err)
	}
	failpoint.Hit("dialer.hello.send.after")
	theirs, err := readHello(conn)
	if err != nil {
		return fmt.Errorf("greet %s: %w", address, err)
	}
	failpoint.Hit("dialer.hello.answer.before")
	if theirs.Refusal != nil {
		return d.wasRefused(theirs, address)
	}
	verdict := hello{Refusal: d.judge(theirs, expected)}
	failpoint.Hit("dialer.hello.answer.after")
	failpoint.Hit("dialer.verdict.send.before")
	if err := writeHello(conn, verdict); err != nil {
		return fmt.Errorf("greet %s: %w", address, err)
	}
	failpoint.Hit("dialer.verdict.send.after")
	if verdict.Refusal != nil {
		return &refusedError{refusal: *verdict.Refusal, peer: theirs.Node, ours: true}
	}
	d.admitted(theirs.Node)
	return clearDeadline(conn)
}

// receive is the other side. It reports the peer's hello.
func (d *doorman) receive(conn net.Conn, deadline time.Time) (hello, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return hello{}, fmt.Errorf("receive: %w", err)
	}
	theirs, err := readHello(conn)
	ours := d.hello(false)
	switch {
	case errors.Is(err, errHelloVersion):
		ours.Refusal = &refusal{refusedVersion, err.Error() + ": run the same program on every node"}
	case err != nil:
		return hello{}, err
	default:
		failpoint.Hit("listener.hello.receive.before")
		ours.Refusal = d.judge(theirs, "")
		failpoint.Hit("listener.hello.receive.after")
	}
	failpoint.Hit("listener.hello.answer.before")
	if err := writeHello(conn, ours); err != nil {
		return hello{}, err
	}
	failpoint.Hit("listener.hello.answer.after")
	if ours.Refusal != nil {
		return hello{}, &refusedError{refusal: *ours.Refusal, peer: theirs.Node, ours: true}
	}
	verdict, err := readHello(conn)
	if err != nil {
		return hello{}, err
	}
	failpoint.Hit("listener.verdict.receive.before")
	if verdict.Refusal != nil {
		verdict.Node = theirs.Node
		return hello{}, d.wasRefused(verdict, conn.RemoteAddr().String())
	}
	d.admitted(theirs.Node)
	failpoint.Hit("listener.verdict.receive.after")
	return theirs, clearDeadline(conn)
}

func (d *doorman) wasRefused(by hello, address string) error {
	e := &refusedError{refusal: *by.Refusal, peer: by.Node}
	if e.peer == "" {
		e.peer = address
	}
	d.refused(e)
	return e
}

func clearDeadline(conn net.Conn) error {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	return nil
}
