package inprocess

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// wireMethod is a method and whoever serves it.
type wireMethod struct {
	protoreflect.MethodDescriptor
	conn *grpc.ClientConn
}

// wireCall is a method with its request; raw is what is sent instead, if set.
type wireCall struct {
	method  wireMethod
	request proto.Message
	raw     []byte
}

func (c wireCall) String() string {
	text := prototext.MarshalOptions{}.Format(c.request)
	return fmt.Sprintf("%s {%s}", c.method.Name(), text[:min(len(text), 1500)])
}

// rawCodec sends bytes as they are, under the name of protobuf.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), b...)
	return nil
}

// invoke makes the call; of a stream it takes the first answer.
func (c wireCall) invoke(ctx context.Context) error {
	name := fmt.Sprintf("/%s/%s", c.method.Parent().FullName(), c.method.Name())
	var in, out any = c.request, messageOf(c.method.Output())
	var opts []grpc.CallOption
	if c.raw != nil {
		in, out = &c.raw, new([]byte)
		opts = append(opts, grpc.ForceCodec(rawCodec{}))
	}
	if !c.method.IsStreamingServer() {
		return c.method.conn.Invoke(ctx, name, in, out, opts...)
	}
	ctx, cancel := context.WithTimeout(ctx, wirePatience/10)
	defer cancel()
	s, err := c.method.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, name, opts...)
	if err != nil {
		return err
	}
	if err := s.SendMsg(in); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	err = s.RecvMsg(out)
	if ctx.Err() != nil {
		return nil // it waits for what happens next
	}
	return err
}

func messageOf(d protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err) // every message of ours is registered by its package
	}
	return t.New().Interface()
}

// wireWords are what is right in this world, so that messages get further.
type wireWords struct{ cluster, incarnation, endpoint string }

// wireMaker makes messages from bytes; when they are used up, everything is 0.
type wireMaker struct {
	data []byte
	wireWords
}

func (m *wireMaker) byte() byte {
	if len(m.data) == 0 {
		return 0
	}
	b := m.data[0]
	m.data = m.data[1:]
	return b
}

func (m *wireMaker) one(list ...string) string { return list[int(m.byte())%len(list)] }

// call is any method with any request, but nothing that takes the world apart.
func (m *wireMaker) call(methods []wireMethod) wireCall {
	c := wireCall{method: methods[int(m.byte())%len(methods)]}
	c.request = messageOf(c.method.Input())
	m.fill(c.request.ProtoReflect(), 0)
	if r, ok := c.request.(*pb.RemoveParticipantRequest); ok && r.GetName() == "p" {
		r.Name = "q"
	}
	if m.byte()%4 > 0 {
		m.mend(c.request)
	}
	return c
}

// mend puts right what chance seldom finds, so that most messages are refused
// for one thing or for nothing.
func (m *wireMaker) mend(req proto.Message) {
	switch r := req.(type) {
	case *pb.SubmitRequest:
		r.Id, r.RetryOf, r.Wait = m.one("a", "b", "c", "d", ""), m.one("", "", "a"), pb.Wait(m.byte()%2)
		r.Timeout = durationpb.New(time.Duration(50+m.byte()) * time.Millisecond)
		r.Branches = []*pb.Branch{{Participant: "p", Payload: m.bytes("payload")}}
	case *pb.ResolveRequest:
		r.Id, r.GiveUp, r.Acknowledge = m.one("a", "b"), nil, true
	case *pb.PrepareRequest:
		if m.byte()%4 > 0 {
			r.Payload = m.bytes("payload")
		}
		r.Fence, r.Branch, r.Priority = m.fence(), m.branch(r.GetPayload()), &pb.Attempt{Generation: 1, Term: 1, Sequence: 1}
		r.BudgetMs = uint32(m.byte())
	case *pb.CommitOnePhaseRequest:
		if m.byte()%4 > 0 {
			r.Payload = m.bytes("payload")
		}
		r.Fence, r.Branch, r.Priority = m.fence(), m.branch(r.GetPayload()), &pb.Attempt{Generation: 1, Term: 1, Sequence: 1}
		r.BudgetMs = uint32(m.byte())
	case *pb.CommitRequest:
		r.Fence, r.Branch = m.fence(), m.branch(m.bytes("payload"))
	case *pb.RollbackRequest:
		r.Fence, r.Branch = m.fence(), m.branch(m.bytes("payload"))
	}
}

func (m *wireMaker) fence() *pb.Fence {
	return &pb.Fence{
		ClusterId: m.cluster, Generation: 1, Term: uint64(1 + m.byte()%2), Participant: "solo",
		Floor:       &pb.Attempt{Generation: 1, Term: 1, Sequence: 1 + uint64(m.byte()/200)},
		Incarnation: m.incarnation,
	}
}

func (m *wireMaker) branch(payload []byte) *pb.BranchRef {
	digest := fsm.DigestOf(payload)
	return &pb.BranchRef{Id: m.one("a", "b", "c"), Attempt: m.attempt(), Participant: "solo", Digest: digest[:]}
}

func (m *wireMaker) attempt() *pb.Attempt {
	return &pb.Attempt{Generation: 1, Term: uint64(1 + m.byte()%3), Sequence: uint64(1 + m.byte()%8)}
}

func (m *wireMaker) fill(msg protoreflect.Message, depth int) {
	fields := msg.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch chance := m.byte(); {
		case chance < 24, depth > 4:
			continue
		case field.IsList():
			n := int(chance) % 4
			if chance == 255 {
				n = 70 // more than anybody may send
			}
			list := msg.Mutable(field).List()
			for range n {
				list.Append(m.value(field, list.NewElement(), depth))
			}
		case field.Kind() == protoreflect.MessageKind:
			m.fill(msg.Mutable(field).Message(), depth+1)
		default:
			msg.Set(field, m.value(field, msg.NewField(field), depth))
		}
	}
}

func (m *wireMaker) value(field protoreflect.FieldDescriptor, fresh protoreflect.Value, depth int) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.MessageKind:
		m.fill(fresh.Message(), depth+1)
		return fresh
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(m.text(string(field.Name())))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(m.bytes(string(field.Name())))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(m.byte()%2 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int8(m.byte()%9) - 1))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(m.number()))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(m.number())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(m.number()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(m.number()))
	}
	return fresh
}

// number is mostly small; a term or floor beyond all others would leave the
// participant with nothing to say.
func (m *wireMaker) number() uint64 {
	switch b := m.byte(); {
	case b == 255:
		return -uint64(m.byte())
	case b > 250:
		return 1<<63 - 1 + uint64(m.byte()%3)
	case b > 240:
		return uint64(m.byte())<<24 | uint64(m.byte())
	default:
		return uint64(b % 5)
	}
}

func (m *wireMaker) text(field string) string {
	if m.byte() > 250 {
		return m.one("", "\x00", "é\u202e", "../x", "%s", strings.Repeat("x", 49), strings.Repeat("y", 5000), "-", ".")
	}
	switch field {
	case "id", "retry_of":
		return m.one("a", "b", "c", "a.", "")
	case "participant", "name":
		return m.one("p", "p", "p", "solo", "solo", "q")
	case "cluster_id":
		return m.one(m.cluster, m.cluster, m.cluster, "", "other")
	case "incarnation":
		return m.one(m.incarnation, "", "other")
	case "node", "from":
		return m.one("n1", "n2", "")
	case "endpoints", "raft_address", "rpc_address", "http_address":
		return m.one(m.endpoint, "127.0.0.1:1", "127.0.0.1:99999", "nowhere")
	case "resume", "after", "next":
		return m.one("", "1/a", "0", "99999999999999999999/a", "/")
	}
	return m.one("k", "k/", "")
}

func (m *wireMaker) bytes(field string) []byte {
	if field != "payload" {
		b := make([]byte, []int{16, 16, 16, 0, 15, 17}[m.byte()%6])
		for i := range b {
			b[i] = m.byte()
		}
		return b
	}
	if m.byte()%4 > 0 {
		return []byte(m.one(`{"ops":[{"op":"add","key":"k","delta":1}]}`, `{"ops":[{"op":"get","key":"k"}]}`))
	}
	return []byte(m.one(
		`{"ops":[{"op":"delete","key":"k"}]}`, `{"ops":[{"op":"put","key":"k/","value":[1,"x"]}]}`,
		`{"ops":[{"op":"check","key":"k","exists":true}]}`, `{"ops":[{"op":"append","key":"k","value":1}]}`, `{"ops":[]}`, `{`, ``, "\xff", `null`,
		`{"ops":[{"op":"add","key":"k","delta":9223372036854775808}]}`,
	))
}
