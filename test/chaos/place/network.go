//go:build linux

package place

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// Network gives each child a network namespace, all of them on one bridge with
// us, so that packets can be dropped, refused and slowed down for one child.
type Network struct {
	hosts map[string]string
}

// Names within the namespaces.
const (
	namespaces = "/run/netns"
	bridge     = "concordat0"
	subnet     = "10.77.0."
)

// NewNetwork makes the namespaces; we are host 1. It needs Inside.
func NewNetwork(children []string) (*Network, error) {
	if !Inside() {
		return nil, errors.New("the machine's own network is left alone: Enter first")
	}
	if err := os.MkdirAll(namespaces, 0o755); err != nil {
		return nil, err
	}
	if err := syscall.Mount("none", namespaces, "tmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount %s: %w", namespaces, err)
	}
	for _, line := range []string{
		"link set lo up", "link add " + bridge + " type bridge", "addr add " + subnet + "1/24 dev " + bridge, "link set " + bridge + " up",
	} {
		if err := ip(line); err != nil {
			return nil, err
		}
	}
	n := &Network{hosts: map[string]string{}}
	for i, child := range children {
		n.hosts[child] = subnet + strconv.Itoa(i+2)
		for _, line := range []string{
			"netns add " + child,
			"link add veth-" + child + " type veth peer name eth0 netns " + child,
			"link set veth-" + child + " master " + bridge + " up",
			"-n " + child + " addr add " + n.hosts[child] + "/24 dev eth0",
			"-n " + child + " link set eth0 up",
			"-n " + child + " link set lo up",
		} {
			if err := ip(line); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

// Close takes the namespaces and the bridge away. What runs in them must have ended.
func (n *Network) Close() error {
	errs := []error{ip("link del " + bridge)}
	for child := range n.hosts { // the link itself: the kernel takes its time with what is in a namespace
		errs = append(errs, ip("link del veth-"+child), ip("netns del "+child))
	}
	return errors.Join(append(errs, syscall.Unmount(namespaces, 0))...)
}

func ip(line string) error {
	_, err := run("ip", strings.Fields(line)...)
	return err
}

// Host is a child's address.
func (n *Network) Host(child string) string { return n.hosts[child] }

// Prefix of a command line makes it run in the child's namespace, without a process more.
func (n *Network) Prefix(child string) []string {
	return []string{"nsenter", "--net=" + namespaces + "/" + child, "--"}
}

func (n *Network) in(child string, line string) (string, error) {
	words := append(n.Prefix(child), strings.Fields(line)...)
	return run(words[0], words[1:]...)
}

// Direction of packets, seen from the child.
type Direction string

// The directions.
const (
	In  Direction = "INPUT"
	Out Direction = "OUTPUT"
)

// Drop loses the child's packets of a direction, from or to the other, or from
// or to everyone if other is empty. What it says to itself stays.
func (n *Network) Drop(child string, d Direction, other string) error {
	line := "iptables -w -A INPUT ! -i lo"
	match := " -s "
	if d == Out {
		line, match = "iptables -w -A OUTPUT ! -o lo", " -d "
	}
	if other != "" {
		line += match + n.hosts[other]
	}
	_, err := n.in(child, line+" -j DROP")
	return err
}

// Reset answers every TCP packet that comes to the child with a reset, so that
// connections end.
func (n *Network) Reset(child string) error {
	_, err := n.in(child, "iptables -w -A INPUT ! -i lo -p tcp -j REJECT --reject-with tcp-reset")
	return err
}

// Slow lets the child send only so much; what exceeds it queues for up to
// latency and is then dropped.
func (n *Network) Slow(child, rate, latency string) error {
	_, err := n.in(child, "tc qdisc add dev eth0 root tbf rate "+rate+" burst 1600 latency "+latency)
	return err
}

var overlimits = regexp.MustCompile(`overlimits (\d+)`)

// Hits is how many packets met the rules that are in force for a child.
func (n *Network) Hits(child string) (hits int64, err error) {
	rules, err := n.in(child, "iptables -w -nvxL")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(rules) {
		fields := strings.Fields(line)
		if len(fields) > 3 && (fields[2] == "DROP" || fields[2] == "REJECT") {
			count, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("iptables says %q: %w", line, err)
			}
			hits += count
		}
	}
	queue, err := n.in(child, "tc -s qdisc show dev eth0")
	if err != nil {
		return 0, err
	}
	if found := overlimits.FindStringSubmatch(queue); found != nil && strings.Contains(queue, "tbf") {
		count, err := strconv.ParseInt(found[1], 10, 64)
		if err != nil {
			return 0, err
		}
		hits += count
	}
	return hits, nil
}

// Heal ends every fault of a child's network.
func (n *Network) Heal(child string) error {
	_, err := n.in(child, "iptables -w -F")
	queue, e := n.in(child, "tc qdisc show dev eth0")
	if err = errors.Join(err, e); err == nil && strings.Contains(queue, "tbf") {
		_, err = n.in(child, "tc qdisc del dev eth0 root")
	}
	return err
}
