package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/concordat-tx/concordat/test/debian"
)

const (
	valueBytes  = 128
	redialAfter = 100 * time.Millisecond
)

// startEtcd is Debian's etcd; the load goes to the member that leads.
func startEtcd(ctx context.Context, s *site) ([]*subject, error) {
	e, err := s.startMembers(ctx)
	if err != nil {
		return nil, err
	}
	return []*subject{{name: "etcd", one: e.toLeader, servers: e.pids, helpers: none, aim: e.aim, sound: e.sound}}, nil
}

// startMembers starts three, in their default settings.
func (s *site) startMembers(ctx context.Context) (*etcd, error) {
	if err := debian.Need("etcd", "etcd-server"); err != nil {
		return nil, err
	}
	free, err := addresses(2 * nodes)
	if err != nil {
		return nil, err
	}
	var all []string
	for i := range nodes {
		all = append(all, fmt.Sprintf("e%d=http://%s", i+1, free[i]))
	}
	e := &etcd{value: bytes.Repeat([]byte{'x'}, valueBytes)}
	for i := range nodes {
		name, peer, client := fmt.Sprintf("e%d", i+1), "http://"+free[i], "http://"+free[nodes+i]
		m := &member{log: filepath.Join(s.dir, name+".log"), args: []string{
			"--name", name, "--data-dir", filepath.Join(s.dir, name), "--logger", "zap", "--log-level", "warn",
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--listen-client-urls", client, "--advertise-client-urls", client, "--initial-cluster", strings.Join(all, ","),
		}}
		if err := m.start(); err != nil {
			return nil, err
		}
		s.atEnd(func() error { m.kill(); return nil })
		for range connections {
			conn, err := dialEtcd(free[nodes+i])
			if err != nil {
				return nil, err
			}
			s.atEnd(conn.Close)
			m.conns = append(m.conns, conn)
		}
		e.members = append(e.members, m)
	}
	return e, e.aim(ctx)
}

// member is one process and the connections to it.
type member struct {
	args  []string
	log   string
	cmd   *exec.Cmd
	conns []*grpc.ClientConn
}

// start runs it until it is killed or this process ends.
func (m *member) start() error {
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.cmd = exec.Command("etcd", m.args...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return m.cmd.Start()
}

// kill is kill -9, and waits for the end.
func (m *member) kill() {
	_ = m.cmd.Process.Kill() // it may have ended
	_ = m.cmd.Wait()         // killed
}

// etcd is a client of its gRPC interface, of as much as is used: its own client
// would bring a tree of dependencies for one message of two fields.
type etcd struct {
	members []*member
	leader  int // of members
	value   []byte
}

func (e *etcd) pids() (ids []int) {
	for _, m := range e.members {
		ids = append(ids, m.cmd.Process.Pid)
	}
	return ids
}

// aim finds the member that leads.
func (e *etcd) aim(ctx context.Context) error {
	return until(ctx, "a member of etcd leads", func(ctx context.Context) (_ bool, last error) {
		for i, m := range e.members {
			leads, err := leads(ctx, m.conns[0])
			if leads {
				e.leader = i
				return true, nil
			}
			last = errors.Join(last, err)
		}
		return false, last
	})
}

// sound: the member that led still does.
func (e *etcd) sound(ctx context.Context) error {
	leads, err := leads(ctx, e.members[e.leader].conns[0])
	if err == nil && !leads {
		err = errors.New("another member of etcd leads")
	}
	return err
}

func dialEtcd(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		// One that was killed is found again soon.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: redialAfter, Multiplier: 1, MaxDelay: redialAfter}, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(encoded{})))
}

// toLeader is a put at the member that leads.
func (e *etcd) toLeader(ctx context.Context, caller int, number uint64) error {
	conns := e.members[e.leader].conns
	return e.put(ctx, conns[caller/callersPerConnection%len(conns)], number)
}

// put is etcdserverpb.KV/Put: PutRequest has key = 1, value = 2.
func (e *etcd) put(ctx context.Context, conn *grpc.ClientConn, number uint64) error {
	key := fmt.Appendf(nil, "account/%06d", number%distinctKeys)
	req := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), key)
	req = protowire.AppendBytes(protowire.AppendTag(req, 2, protowire.BytesType), e.value)
	var answer []byte
	return conn.Invoke(ctx, "/etcdserverpb.KV/Put", &req, &answer)
}

// leads asks a member whether it does. StatusResponse has header = 1, of which
// member_id = 2, and leader = 4.
func leads(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var req, answer []byte
	if err := conn.Invoke(ctx, "/etcdserverpb.Maintenance/Status", &req, &answer, grpc.WaitForReady(true)); err != nil {
		return false, err
	}
	header, _, err := numbered(answer, 1)
	if err != nil {
		return false, err
	}
	_, self, err1 := numbered(header, 2)
	_, leader, err2 := numbered(answer, 4)
	return leader != 0 && leader == self, errors.Join(err1, err2)
}

// numbered finds a field of a message, and its value as one or the other kind.
func numbered(message []byte, number protowire.Number) (text []byte, value uint64, err error) {
	for len(message) > 0 {
		found, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, 0, protowire.ParseError(n)
		}
		message = message[n:]
		size := protowire.ConsumeFieldValue(found, kind, message)
		if size < 0 {
			return nil, 0, protowire.ParseError(size)
		}
		if found == number && kind == protowire.BytesType {
			text, _ = protowire.ConsumeBytes(message)
			return text, 0, nil
		}
		if found == number && kind == protowire.VarintType {
			value, _ = protowire.ConsumeVarint(message)
			return nil, value, nil
		}
		message = message[size:]
	}
	return nil, 0, nil
}

// encoded is the codec of messages that are encoded already.
type encoded struct{}

func (encoded) Name() string { return "proto" }

func (encoded) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("a message is bytes here, not %T", v)
	}
	return *b, nil
}

func (encoded) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("a message is bytes here, not %T", v)
	}
	*b = bytes.Clone(data)
	return nil
}
