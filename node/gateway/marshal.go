package gateway

import (
	"errors"
	"fmt"
	"io"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/jsonform"
)

const contentJSON = "application/json"

// marshaler is the JSON form as the generated handlers want it. It reads
// nothing but bodies that inspect has read already, so that no error of the
// form is flattened to text on its way.
type marshaler struct{}

// body is a request's message in the place of the bytes that it was read from.
type body struct{ message proto.Message }

func (body) Read([]byte) (int, error) { return 0, io.EOF }
func (body) Close() error             { return nil }

func (marshaler) ContentType(any) string { return contentJSON }

func (marshaler) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("a %T is no response", v)
	}
	o, err := jsonform.Of(m)
	if err != nil {
		return nil, err
	}
	return o.Line()
}

func (marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		b, ok := r.(body)
		into, isMessage := v.(proto.Message)
		if !ok || !isMessage || b.message == nil {
			return errors.New("the body was not read")
		}
		proto.Merge(into, b.message)
		return nil
	})
}

func (marshaler) Unmarshal([]byte, any) error { return errors.New("the body was not read") }

func (marshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		line, err := marshaler{}.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(line)
		return err
	})
}
