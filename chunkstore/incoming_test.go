package chunkstore

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"dengbei/chunkstore/digest"
)

func receive(t *testing.T, f *Files, content []byte) *Incoming {
	t.Helper()
	in, err := f.Receive(packOf(content), int64(len(content)))
	must(t, err)
	return in
}

func TestReceiveGoesOnAfterKill(t *testing.T) {
	f, content := create(t), sample()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), receiveChild+"="+f.Dir())
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, _ := bufio.NewReader(out).ReadString('\n')
	if _, err := f.Receive(packOf(content), int64(len(content))); !errors.Is(err, ErrBusy) {
		t.Errorf("Receive while another process does = %v; want ErrBusy", err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed
	if line != "half <nil>\n" {
		t.Fatalf("the other process said %q", line)
	}
	if n := len(tempFiles(t, f)); n != 2 {
		t.Fatalf("the killed process left %d files; want a part and a staged one", n)
	}
	f, err = Open(f.Dir())
	must(t, err)
	parts, err := f.Parts()
	must(t, err)
	if len(parts) != 1 || parts[0] != (Entry{packOf(content), int64(len(content) / 2)}) {
		t.Errorf("Parts() = %v; want half of %v", parts, packOf(content))
	}
	in := receive(t, f, content)
	if in.Offset() != int64(len(content)/2) {
		t.Errorf("Offset() = %d; want %d", in.Offset(), len(content)/2)
	}
	_, err = in.Write(content[in.Offset():])
	must(t, err)
	must(t, in.Commit(t.Context()))
	must(t, f.Verify(t.Context(), packOf(content)))
	if left := tempFiles(t, f); len(left) != 0 {
		t.Errorf("tmp/ holds %q; want nothing", left)
	}
	if _, err := f.Receive(packOf(content), int64(len(content))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Receive of what is there = %v; want fs.ErrExist", err)
	}
}

func TestReceiveRefusesWrongBytes(t *testing.T) {
	f, content, ctx := create(t), sample(), t.Context()
	in := receive(t, f, content)
	if _, err := f.Receive(packOf(content), int64(len(content))); !errors.Is(err, ErrBusy) {
		t.Errorf("second Receive = %v; want ErrBusy", err)
	}
	_, err := in.Write(content[:1000])
	must(t, err)
	if err := in.Commit(ctx); !errors.Is(err, ErrSize) {
		t.Errorf("Commit of a part = %v; want ErrSize", err)
	}
	if _, err := in.Write(content); !errors.Is(err, ErrSize) {
		t.Errorf("Write past the size = %v; want ErrSize", err)
	}
	must(t, in.Close())
	must(t, in.Close())
	if in = receive(t, f, content); in.Offset() != 1000 {
		t.Errorf("Offset() after Close = %d; want 1000", in.Offset())
	}
	wrong := append([]byte(nil), content[1000:]...)
	wrong[7] ^= 1
	_, err = in.Write(wrong)
	must(t, err)
	if err := in.Commit(ctx); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Commit of wrong bytes = %v; want digest.ErrMismatch", err)
	}
	if left := tempFiles(t, f); len(left) != 0 {
		t.Errorf("tmp/ holds %q; want nothing", left)
	}
	if _, err := f.Stat(packOf(content)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat() = %v; want fs.ErrNotExist", err)
	}
}

func TestReceiveReadsBackWhatIsOnDisk(t *testing.T) {
	f, content := create(t), sample()
	in := receive(t, f, content)
	_, err := in.Write(content)
	must(t, err)
	// The disk did not keep what was written.
	_, err = in.file.WriteAt([]byte{content[5] ^ 1}, 5)
	must(t, err)
	if err := in.Commit(t.Context()); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Commit of bytes the disk lost = %v; want digest.ErrMismatch", err)
	}
}

func TestReceiveKeepsThePartWhenCancelled(t *testing.T) {
	f, content := create(t), sample()
	in := receive(t, f, content)
	_, err := in.Write(content)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit with a cancelled context = %v; want context.Canceled", err)
	}
	must(t, in.Commit(t.Context()))
	must(t, f.Verify(t.Context(), packOf(content)))
}

func TestReceiveStartsOverAPartThatIsTooLong(t *testing.T) {
	f, content := create(t), sample()
	must(t, os.Mkdir(filepath.Join(f.Dir(), tmpDir), 0o700))
	must(t, os.WriteFile(filepath.Join(f.Dir(), tmpDir, packOf(content).flat()+partSuffix), append(sample(), 'x'), 0o600))
	in := receive(t, f, content)
	if in.Offset() != 0 {
		t.Errorf("Offset() = %d; want 0", in.Offset())
	}
	must(t, in.Discard())
}

func TestReceiveConfig(t *testing.T) {
	f, content := create(t), []byte("config")
	in, err := f.Receive(Name{Config, digest.Of(content)}, int64(len(content)))
	must(t, err)
	_, err = in.Write(content)
	must(t, err)
	must(t, in.Commit(t.Context()))
	must(t, f.Verify(t.Context(), Name{Config, digest.Of(content)}))
	if left := tempFiles(t, f); len(left) != 0 {
		t.Errorf("tmp/ holds %q; want nothing", left)
	}
}
