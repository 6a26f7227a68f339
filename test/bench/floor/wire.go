package floor

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// method answers one unary call; requests and answers are bytes, in protobuf's
// own message for them.
type method func(ctx context.Context, in []byte) ([]byte, error)

// service describes a service by its methods.
func service(name string, methods map[string]method) *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil)}
	for called, m := range methods {
		d.Methods = append(d.Methods, grpc.MethodDesc{
			MethodName: called,
			Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				in := &wrapperspb.BytesValue{}
				if err := decode(in); err != nil {
					return nil, err
				}
				out, err := m(ctx, in.GetValue())
				if err != nil {
					return nil, err
				}
				return wrapperspb.Bytes(out), nil
			},
		})
	}
	return d
}

// The services and methods.
const (
	nodeService        = "bench.Node"
	participantService = "bench.Participant"
	echoService        = "bench.Echo"

	submit  = "/" + nodeService + "/Submit"
	put     = "/" + nodeService + "/Put"
	state   = "/" + nodeService + "/State"
	prepare = "/" + participantService + "/Prepare"
	commit  = "/" + participantService + "/Commit"
	counts  = "/" + participantService + "/Counts"
	echo    = "/" + echoService + "/Echo"
)

// call makes one unary call.
func call(ctx context.Context, conn *grpc.ClientConn, name string, in []byte, opts ...grpc.CallOption) ([]byte, error) {
	out := &wrapperspb.BytesValue{}
	if err := conn.Invoke(ctx, name, wrapperspb.Bytes(in), out, opts...); err != nil {
		return nil, err
	}
	return out.GetValue(), nil
}

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
}
