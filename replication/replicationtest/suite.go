package replicationtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"

	"dengbei/chunkstore/digest"
	"dengbei/replication"
	"dengbei/replication/manifest"
)

// File returns content as a file of a backup in directory dir, or as "config".
func File(dir string, content []byte) manifest.File {
	var h manifest.LeafHasher
	h.Write(content)
	f := manifest.File{SizeBytes: h.Size(), SHA256: digest.Of(content), LeafRoot: h.Root()}
	if f.Name = "config"; dir != "config" {
		f.Name = dir + "/" + f.SHA256.Hex()
	}
	return f
}

// RunStore checks a [replication.Store] against its contract. open returns an empty store, or, called with the store it
// returned before, the same one as after a restart of the process.
func RunStore(t *testing.T, open func(t *testing.T, before replication.Store) replication.Store) {
	ctx := context.Background()
	content := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	f := File("data", content)
	for _, dir := range []string{"config", "keys", "documents", "snapshots", "index", "data"} {
		t.Run("a file of "+dir+" goes in and comes out", func(t *testing.T) {
			s, f := open(t, nil), File(dir, content)
			if _, ok, err := s.Has(ctx, f.Name); ok || err != nil {
				t.Fatalf("Has of an empty store = %t, %v", ok, err)
			}
			if _, err := s.Open(ctx, f.Name); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("Open of an empty store = %v; want %v", err, fs.ErrNotExist)
			}
			in := receive(t, s, f, 0)
			write(t, in, content)
			if _, ok, _ := s.Has(ctx, f.Name); ok {
				t.Error("Has lists a file before its commit")
			}
			if err := in.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			if err := in.Close(); err != nil {
				t.Errorf("Close after Commit = %v", err)
			}
			if n, ok, err := s.Has(ctx, f.Name); n != f.SizeBytes || !ok || err != nil {
				t.Errorf("Has = %d, %t, %v; want %d", n, ok, err, f.SizeBytes)
			}
			if got, err := read(s, f.Name); err != nil || !bytes.Equal(got, content) {
				t.Errorf("read %d bytes, %v; want %d", len(got), err, len(content))
			}
			if _, err := s.Receive(ctx, f); !errors.Is(err, fs.ErrExist) {
				t.Errorf("Receive of a stored file = %v; want %v", err, fs.ErrExist)
			}
		})
	}
	t.Run("an empty file", func(t *testing.T) {
		s, f := open(t, nil), File("documents", nil)
		if err := receive(t, s, f, 0).Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if got, err := read(s, f.Name); err != nil || len(got) != 0 {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	})
	t.Run("a part survives Close and a restart", func(t *testing.T) {
		s := open(t, nil)
		in := receive(t, s, f, 0)
		write(t, in, content[:70_001])
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, s)
		in = receive(t, s, f, 70_001)
		write(t, in, content[70_001:])
		if err := in.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if got, err := read(s, f.Name); err != nil || !bytes.Equal(got, content) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	})
	t.Run("wrong bytes leave no trace", func(t *testing.T) {
		s := open(t, nil)
		in := receive(t, s, f, 0)
		bad := bytes.Clone(content)
		bad[len(bad)-1] ^= 1
		write(t, in, bad)
		if err := in.Commit(ctx); !errors.Is(err, digest.ErrMismatch) {
			t.Fatalf("Commit = %v; want %v", err, digest.ErrMismatch)
		}
		if _, ok, _ := s.Has(ctx, f.Name); ok {
			t.Error("the store lists the file")
		}
		receive(t, s, f, 0).Close()
	})
	t.Run("a short file is not committed", func(t *testing.T) {
		s := open(t, nil)
		in := receive(t, s, f, 0)
		write(t, in, content[:100])
		if err := in.Commit(ctx); err == nil {
			t.Error("Commit took it")
		}
		in.Close()
		if _, ok, _ := s.Has(ctx, f.Name); ok {
			t.Error("the store lists the file")
		}
	})
	t.Run("Discard removes a part", func(t *testing.T) {
		s := open(t, nil)
		in := receive(t, s, f, 0)
		write(t, in, content[:100])
		if err := in.Discard(); err != nil {
			t.Fatal(err)
		}
		receive(t, s, f, 0).Close()
	})
	t.Run("one transfer of a name at a time", func(t *testing.T) {
		s := open(t, nil)
		in := receive(t, s, f, 0)
		if _, err := s.Receive(ctx, f); !errors.Is(err, replication.ErrBusy) {
			t.Errorf("second Receive = %v; want %v", err, replication.ErrBusy)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		receive(t, s, f, 0).Close()
	})
	t.Run("a quarantined file can be received again", func(t *testing.T) {
		s := open(t, nil)
		in := receive(t, s, f, 0)
		write(t, in, content)
		if err := in.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Quarantine(ctx, f.Name); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Has(ctx, f.Name); ok || err != nil {
			t.Errorf("Has = %t, %v", ok, err)
		}
		in = receive(t, s, f, 0)
		write(t, in, content)
		if err := in.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// receive opens f for writing and checks how much is there.
func receive(t *testing.T, s replication.Store, f manifest.File, offset int64) replication.Incoming {
	t.Helper()
	in, err := s.Receive(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	if in.Offset() != offset {
		t.Fatalf("Offset = %d; want %d", in.Offset(), offset)
	}
	return in
}

func write(t *testing.T, in replication.Incoming, b []byte) {
	t.Helper()
	if n, err := in.Write(b); n != len(b) || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
}

func read(s replication.Store, name string) ([]byte, error) {
	r, err := s.Open(context.Background(), name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
