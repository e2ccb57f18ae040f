package admin

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// A strictJSON is JSON whose names must all be known: a mistake in typing could mean
// another change than the one that was meant.
type strictJSON string

// strict has handlers take JSON by both names that it goes by.
func strict() connect.HandlerOption {
	return connect.WithHandlerOptions(connect.WithCodec(strictJSON("json")), connect.WithCodec(strictJSON("json; charset=utf-8")))
}

func (s strictJSON) Name() string { return string(s) }

func (s strictJSON) Marshal(message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no message", message)
	}
	return protojson.Marshal(m)
}

func (s strictJSON) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", message)
	}
	if len(data) == 0 {
		return errors.New("the body is empty: {} is the least")
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		// The package puts another blank in at random, so that nobody relies on it.
		return errors.New(strings.ReplaceAll(err.Error(), "\u00a0", " "))
	}
	return nil
}
