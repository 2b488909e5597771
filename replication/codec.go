package replication

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"dengbei/replication/replicationpb"
)

// replyCodec decodes the replies of one stream into one buffer, in place of an allocation and a second copy of up to 1 MiB
// for each. Data of a reply is valid until the next one is received. The wire format is protobuf's.
type replyCodec struct {
	encoding.CodecV2
	buf []byte
}

func newReplyCodec() *replyCodec { return &replyCodec{CodecV2: encoding.GetCodecV2(proto.Name)} }

// Unmarshal implements [encoding.CodecV2].
func (c *replyCodec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*replicationpb.FetchReply)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	n := data.Len() // bounded by MaxCallRecvMsgSize
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	data.CopyTo(c.buf[:n])
	return decodeReply(c.buf[:n], r)
}

// decodeReply sets r to the message in b; r.Data aliases b. Unknown fields are skipped, as protobuf does.
func decodeReply(b []byte, r *replicationpb.FetchReply) error {
	r.Reset()
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("decode reply: %w", protowire.ParseError(n))
		}
		if field > protowire.MaxValidNumber { // protobuf refuses what ConsumeTag lets pass
			return fmt.Errorf("decode reply: field number %d", field)
		}
		b = b[n:]
		var value uint64
		switch {
		case kind == protowire.VarintType:
			value, n = protowire.ConsumeVarint(b)
		case kind == protowire.BytesType && field == 3:
			r.Data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return fmt.Errorf("decode reply, field %d: %w", field, protowire.ParseError(n))
		}
		b = b[n:]
		if kind != protowire.VarintType {
			continue
		}
		switch field {
		case 1:
			r.File = uint32(value)
		case 2:
			r.Offset = value
		case 4:
			r.SizeBytes = value
		case 5:
			r.Last = protowire.DecodeBool(value)
		case 6:
			r.Error = replicationpb.FileError(int32(value))
		}
	}
	return nil
}
