package restore

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dengbei/chunkstore/repository"
)

func TestDumpOfAFile(t *testing.T) {
	repo, files := newRepo(t, repository.Options{PackBytes: 4 << 20, Chunks: repository.DatabaseChunks()})
	src := t.TempDir()
	big := noise("big", 20<<20)
	write(t, src, map[string][]byte{"big": big, "empty": nil})
	r := backup(t, repo, src)
	n, err := Find(t.Context(), repo, r.SnapshotID, "big")
	must(t, err)
	var out bytes.Buffer
	must(t, Dump(t.Context(), repo, n, &out))
	if !bytes.Equal(out.Bytes(), big) {
		t.Errorf("Dump wrote %d bytes that differ", out.Len())
	}
	empty, err := Find(t.Context(), repo, r.SnapshotID, "empty")
	must(t, err)
	out.Reset()
	must(t, Dump(t.Context(), repo, empty, &out))
	if out.Len() != 0 {
		t.Errorf("Dump of an empty file wrote %d bytes", out.Len())
	}

	// A writer that fails ends it; a damaged blob does, after what is before it.
	full := errors.New("full")
	if err := Dump(t.Context(), repo, n, failing{full}); !errors.Is(err, full) {
		t.Errorf("Dump to a full disk = %v", err)
	}
	at := repo.Locate(repository.DataBlob, n.Content[len(n.Content)/2])[0]
	p := filepath.Join(files.Dir(), "data", at.Pack.ID.Hex()[:2], at.Pack.ID.Hex())
	b, err := os.ReadFile(p)
	must(t, err)
	b[at.Blob.Offset+20] ^= 1
	must(t, os.Chmod(p, 0o600))
	must(t, os.WriteFile(p, b, 0o600))
	out.Reset()
	if err := Dump(t.Context(), repo, n, &out); !errors.Is(err, repository.ErrDamaged) || !bytes.HasPrefix(big, out.Bytes()) || out.Len() == 0 {
		t.Errorf("Dump = %v after %d bytes; want ErrDamaged after a part", err, out.Len())
	}
	if err := Dump(t.Context(), repo, &repository.Node{Name: "d", Type: repository.TypeDir}, &out); err == nil {
		t.Error("a directory is dumped as a file")
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestArchives(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	src, want := source(t)
	r := backup(t, repo, src)
	var out bytes.Buffer
	missing, err := WriteTar(t.Context(), repo, r.Tree, "/pre", &out)
	must(t, err)
	if len(missing) > 0 {
		t.Errorf("missing %v", missing)
	}
	got := make(map[string]string)
	for in := tar.NewReader(&out); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		name, ok := strings.CutPrefix(h.Name, "pre/")
		if !ok {
			t.Errorf("%s is not below the prefix", h.Name)
		}
		b, err := io.ReadAll(in)
		must(t, err)
		switch h.Typeflag {
		case tar.TypeReg:
			got[name] = string(b)
		case tar.TypeSymlink:
			got[name] = h.Linkname
		}
		st, err := os.Lstat(filepath.Join(src, name))
		must(t, err)
		if !st.ModTime().Equal(h.ModTime) || h.FileInfo().Mode() != st.Mode() {
			t.Errorf("%s: %v %v; want %v %v", name, h.FileInfo().Mode(), h.ModTime, st.Mode(), st.ModTime())
		}
	}
	same(t, got, want)

	out.Reset()
	_, err = WriteZip(t.Context(), repo, r.Tree, "/", &out)
	must(t, err)
	in, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	must(t, err)
	got = make(map[string]string)
	for _, f := range in.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		rc, err := f.Open()
		must(t, err)
		b, err := io.ReadAll(rc)
		must(t, err)
		got[f.Name] = string(b)
	}
	same(t, got, want)
}

func TestArchiveOfWhatIsThere(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	good := repository.Node{Name: "good", Type: repository.TypeFile, Mode: 0o600}
	lost := repository.Node{Name: "lost", Type: repository.TypeFile, Mode: 0o600, Content: []repository.ID{{1}}, SizeBytes: 1}
	id := plant(t, repo, repository.Node{Name: "../bad", Type: repository.TypeFile}, good, lost)
	sn, err := repo.LoadSnapshot(t.Context(), id)
	must(t, err)
	var out bytes.Buffer
	missing, err := WriteTar(t.Context(), repo, sn.Tree, "/", &out)
	if !errors.Is(err, ErrIncomplete) || len(missing) != 2 {
		t.Errorf("WriteTar = %v, missing %v; want the hostile name and the lost file", err, missing)
	}
	h, err := tar.NewReader(&out).Next()
	if err != nil || h.Name != "good" {
		t.Errorf("first entry %v, %v; want good", h, err)
	}
}

var sameFile = regexp.MustCompile(` is \S+`)

// The system's tar makes of our archive what the restore makes.
func TestTarProgramReadsArchives(t *testing.T) {
	asRoot(t)
	program, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("tar is not installed: reading by a foreign program is NOT checked")
	}
	src := filepath.Join(t.TempDir(), "src")
	must(t, os.Mkdir(src, 0o755))
	specialTree(t, src)
	_, files := newRepo(t, repository.Options{})
	stock(t, files.Dir(), src, "backup", ".")
	repo := openRepo(t, files.Dir())
	all, _, err := repo.Snapshots(t.Context())
	must(t, err)
	archive := filepath.Join(t.TempDir(), "a.tar")
	f, err := os.Create(archive)
	must(t, err)
	_, err = WriteTar(t.Context(), repo, all[0].Tree, "/", f)
	must(t, errors.Join(err, f.Close()))
	target, byRestore := t.TempDir(), t.TempDir()
	if out, err := exec.Command(program, "-C", target, "--xattrs", "--xattrs-include=*", "-xpf", archive).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	_, err = Restore(t.Context(), repo, all[0].ID, byRestore, Options{Owner: true})
	must(t, err)
	got, want := describe(t, target), describe(t, byRestore)
	for name := range want { // archives of restic's kind hold each name of a file with its content
		want[name] = sameFile.ReplaceAllString(want[name], "")
	}
	sameDescription(t, got, want)
}
