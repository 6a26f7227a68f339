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

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/concordat-tx/concordat/test/debian"
)

const valueBytes = 128

// startEtcd is Debian's etcd, three members in their default settings; the load
// goes to the one that leads.
func startEtcd(ctx context.Context, s *site) ([]*subject, error) {
	if err := debian.Need("etcd", "etcd-server"); err != nil {
		return nil, err
	}
	free, err := addresses(2 * nodes)
	if err != nil {
		return nil, err
	}
	var members []string
	for i := range nodes {
		members = append(members, fmt.Sprintf("e%d=http://%s", i+1, free[i]))
	}
	var ids []int
	for i := range nodes {
		id, err := s.member(fmt.Sprintf("e%d", i+1), free[i], free[nodes+i], strings.Join(members, ","))
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	e := &etcd{value: bytes.Repeat([]byte{'x'}, valueBytes)}
	for _, address := range free[nodes:] {
		var conns []*grpc.ClientConn
		for range connections {
			conn, err := dialEtcd(address)
			if err != nil {
				return nil, err
			}
			s.atEnd(conn.Close)
			conns = append(conns, conn)
		}
		e.members = append(e.members, conns)
	}
	return []*subject{{
		name: "etcd", one: e.put, servers: func() []int { return ids }, helpers: none, aim: e.aim, sound: e.sound,
	}}, e.aim(ctx)
}

// aim finds the member that leads.
func (e *etcd) aim(ctx context.Context) error {
	return until(ctx, "a member of etcd leads", func(ctx context.Context) (bool, error) {
		for i, conns := range e.members {
			if leads, err := leads(ctx, conns[0]); leads || err != nil {
				e.leader = i
				return leads, err
			}
		}
		return false, nil
	})
}

// sound: the member that led still does.
func (e *etcd) sound(ctx context.Context) error {
	leads, err := leads(ctx, e.members[e.leader][0])
	if err == nil && !leads {
		err = errors.New("another member of etcd leads")
	}
	return err
}

// member starts one; it ends with this process.
func (s *site) member(name, peer, client, members string) (id int, err error) {
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := exec.Command("etcd", "--name", name, "--data-dir", filepath.Join(s.dir, name), "--logger", "zap", "--log-level", "warn",
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer,
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--initial-cluster", members)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	s.atEnd(func() error {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
		return nil
	})
	return cmd.Process.Pid, nil
}

// etcd is a client of its gRPC interface, of as much as is used: its own client
// would bring a tree of dependencies for one message of two fields.
type etcd struct {
	members [][]*grpc.ClientConn // connections to each
	leader  int                  // of members
	value   []byte
}

func dialEtcd(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(encoded{})))
}

// put is etcdserverpb.KV/Put: PutRequest has key = 1, value = 2.
func (e *etcd) put(ctx context.Context, caller int, number uint64) error {
	key := fmt.Appendf(nil, "account/%06d", number%distinctKeys)
	req := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), key)
	req = protowire.AppendBytes(protowire.AppendTag(req, 2, protowire.BytesType), e.value)
	var answer []byte
	conns := e.members[e.leader]
	return conns[caller/callersPerConnection%len(conns)].Invoke(ctx, "/etcdserverpb.KV/Put", &req, &answer)
}

// leads asks a member whether it does. StatusResponse has header = 1, of which
// member_id = 2, and leader = 4.
func leads(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
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
