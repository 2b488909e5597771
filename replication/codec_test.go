package replication

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"dengbei/replication/replicationpb"
)

// FuzzDecodeReply holds the hand-written decoder to protobuf's: the same texts are accepted, with the same result.
func FuzzDecodeReply(f *testing.F) {
	for _, r := range []*replicationpb.FetchReply{
		{}, {File: 7, Offset: 1 << 40, Data: []byte("data"), SizeBytes: 1<<64 - 1, Last: true},
		{File: 1<<32 - 1, Error: replicationpb.FileError_FILE_ERROR_DAMAGED}, {Error: -1},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, 0x7a, 1, 'x')) // an unknown field
		f.Add(append(b, 0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f))
	}
	f.Add([]byte("\x80\xff\xff\xd90\xff0")) // a field number beyond protobuf's
	f.Add([]byte("\x80\xfd\xfd\xfd0\xfd\xfd0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		want, got := new(replicationpb.FetchReply), &replicationpb.FetchReply{File: 9, Data: []byte("of the reply before")}
		wantErr := proto.Unmarshal(b, want)
		err := newReplyCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(bytes.Clone(b))}, got)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("decodeReply(%x) = %v; protobuf says %v", b, err, wantErr)
		}
		if err != nil {
			return
		}
		want.ProtoReflect().SetUnknown(protoreflect.RawFields(nil))
		if !proto.Equal(got, want) {
			t.Fatalf("decodeReply(%x) = %v; want %v", b, got, want)
		}
	})
}
