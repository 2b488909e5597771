package repo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/repo"
	"dengbei/cmd/dengbei/term"
)

const browsePassword = "correct horse"

// ours runs one command of this group on the repository dir, with --json.
func ours(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	out, stderr, err := tryOurs(t, dir, args...)
	if err != nil {
		t.Fatalf("dengbei repo %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return out
}

func tryOurs(t *testing.T, dir string, args ...string) (stdout, stderr []byte, err error) {
	t.Helper()
	var out, notes bytes.Buffer
	env := map[string]string{"RESTIC_REPOSITORY": dir, "RESTIC_PASSWORD": browsePassword}
	c := &term.Console{In: strings.NewReader(""), Out: &out, Err: &notes, Env: func(k string) string { return env[k] }, JSON: true}
	cmd := repo.Command(c)
	cmd.SetArgs(args)
	cmd.SetErr(&notes)
	cmd.SetOut(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.ExecuteContext(t.Context())
	return out.Bytes(), notes.Bytes(), err
}

// stock runs stock restic with --json, or skips the test where there is none.
func stock(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	bin, err := exec.LookPath("restic")
	if err != nil {
		t.Skip("stock restic is not installed: saying the same as it is NOT checked")
	}
	cmd := exec.Command(bin, append([]string{"-r", dir, "--no-cache", "--no-lock", "--json"}, args...)...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+browsePassword)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("restic %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// values reads JSON values that follow each other.
func values(t *testing.T, b []byte) []any {
	t.Helper()
	var all []any
	for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("read %q: %v", b, err)
		}
		all = append(all, v)
	}
	return all
}

// sameFacts compares what ours and stock restic print. Both may be changed first, as by sorting.
func sameFacts(t *testing.T, what string, ours, stock []any, change func([]any) []any) {
	t.Helper()
	if change != nil {
		ours, stock = change(ours), change(stock)
	}
	if len(ours) != len(stock) {
		t.Errorf("%s: %d values; stock restic prints %d\nours:  %v\nstock: %v", what, len(ours), len(stock), ours, stock)
		return
	}
	for i := range ours {
		if !reflect.DeepEqual(ours[i], stock[i]) {
			a, _ := json.Marshal(ours[i])
			b, _ := json.Marshal(stock[i])
			t.Errorf("%s: value %d is\n%s\nstock restic prints\n%s", what, i, a, b)
		}
	}
}

// write makes files below dir; content "->x" makes a symlink.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		succeed(t, os.MkdirAll(filepath.Dir(p), 0o755))
		succeed(t, os.RemoveAll(p))
		if target, ok := strings.CutPrefix(content, "->"); ok {
			succeed(t, os.Symlink(target, p))
		} else {
			succeed(t, os.WriteFile(p, []byte(content), 0o644))
		}
	}
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// versions calls save for a directory in three states that have most kinds of differences.
func versions(t *testing.T, save func(dir string, n int)) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "delivery")
	write(t, dir, map[string]string{
		"a/b/deep.txt": "hello\n", "one": "x\n", "big": strings.Repeat("登记备份 registration and backup ", 70_000), "link": "->one", "c/same": "hello\n",
		"empty": "", "latin-\xe9": "e", "new\nline": "n", "<html>&": "h", "卷宗/正文.txt": "text", "gone/x": "1", "gone/y/z": "2",
	})
	succeed(t, os.Link(filepath.Join(dir, "one"), filepath.Join(dir, "hard")))
	save(dir, 0)
	write(t, dir, map[string]string{"one": "changed\n", "added": "new", "d/copy": "hello\n", "link": "now a file", "d/e/f": "->g"})
	succeed(t, os.Chmod(filepath.Join(dir, "c/same"), 0o600))
	succeed(t, os.RemoveAll(filepath.Join(dir, "gone")))
	succeed(t, os.Remove(filepath.Join(dir, "a/b/deep.txt")))
	save(dir, 1)
	save(filepath.Join(dir, "c"), 2)
}

// repositories makes two repositories, each with three snapshots: of stock restic and of ours. Both have a cheap key, as
// every command opens it.
func repositories(t *testing.T) map[string]string {
	t.Helper()
	base := t.TempDir()
	dirs := map[string]string{"written by stock restic": filepath.Join(base, "stock"), "written by us": filepath.Join(base, "ours")}
	for name, dir := range dirs {
		files, err := chunkstore.Create(dir)
		succeed(t, err)
		r, err := repository.Init(t.Context(), files, browsePassword, repository.Options{Scrypt: repository.Scrypt{N: 1024, R: 8, P: 1}})
		succeed(t, err)
		versions(t, func(src string, n int) {
			host, tags := "host-"+fmt.Sprint(n), []string{"even", "x" + fmt.Sprint(n)}
			if n == 1 {
				tags = nil
			}
			if name == "written by stock restic" {
				stock(t, dir, "backup", "--host", host, "--tag", strings.Join(tags, ","), src)
				return
			}
			_, err := archive.Backup(t.Context(), r, archive.Options{Roots: []archive.Root{{Path: src, Source: src}}, Host: host, Tags: tags})
			succeed(t, err)
		})
	}
	return dirs
}

// text orders values by their JSON.
func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func sorted(list []any) []any {
	return slices.SortedFunc(slices.Values(list), func(a, b any) int { return strings.Compare(text(a), text(b)) })
}

// without drops fields that stock restic 0.14 does not know.
func without(list []any, fields ...string) []any {
	for _, v := range list {
		switch v := v.(type) {
		case map[string]any:
			for _, f := range fields {
				delete(v, f)
			}
			for _, below := range v {
				without([]any{below}, fields...)
			}
		case []any:
			without(v, fields...)
		}
	}
	return list
}

// elements takes apart arrays.
func elements(list []any) []any {
	var out []any
	for _, v := range list {
		if inner, ok := v.([]any); ok {
			out = append(out, inner...)
		} else if v != nil {
			out = append(out, v)
		}
	}
	return out
}

// Stock restic and we print the same about one repository, whoever made it.
func TestSaysTheSameAsStockRestic(t *testing.T) {
	for name, dir := range repositories(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// No locks: each costs a wait, and here nothing is written.
			ours := func(t *testing.T, dir string, args ...string) []byte {
				return ours(t, dir, append([]string{"--no-lock"}, args...)...)
			}
			var list []struct{ ID, Tree string }
			succeed(t, json.Unmarshal(ours(t, dir, "snapshots"), &list))
			if len(list) != 3 {
				t.Fatalf("%d snapshots; want 3", len(list))
			}
			first, second := list[0].ID, list[1].ID
			plain := func(v []any) []any { return without(sorted(elements(v)), "uid_map", "program_version", "summary") }
			inOrder := func(v []any) []any { return without(elements(v), "program_version", "summary") }

			for _, args := range [][]string{{}, {"--latest", "1"}, {"--host", "host-1"}, {"--tag", "even"}, {"--tag", "even,x2"}, {"--tag", "x0", "--tag", "x2"}, {"--tag", "none"}, {first[:9]}} {
				args = append([]string{"snapshots"}, args...)
				sameFacts(t, fmt.Sprint(args), values(t, ours(t, dir, args...)), values(t, stock(t, dir, args...)), inOrder)
			}
			for _, by := range []string{"host", "host,paths", "tags", "paths,tags"} {
				args := []string{"snapshots", "--group-by", by}
				sameFacts(t, fmt.Sprint(args), values(t, ours(t, dir, args...)), values(t, stock(t, dir, args...)), plain)
			}
			var top string
			for _, line := range values(t, ours(t, dir, "ls", first)) {
				if p, ok := line.(map[string]any)["path"].(string); ok && strings.HasSuffix(p, "/delivery") {
					top = p
				}
			}
			for _, args := range [][]string{{first}, {second}, {"latest"}, {"latest", "--host", "host-0"}, {first, top + "/a"}, {first, "--recursive", top + "/a"}, {first, top + "/a/b", top + "/c"}} {
				args = append([]string{"ls"}, args...)
				sameFacts(t, fmt.Sprint(args), values(t, ours(t, dir, args...)), values(t, stock(t, dir, args...)), inOrder)
			}
			for _, args := range [][]string{{"*.txt"}, {"o*", "same"}, {"-i", "ONE"}, {"-s", first, "**/b"}, {"--host", "host-1", "link"}, {"--oldest", "2001-01-01", "one"},
				{"--newest", "2001-01-01", "one"}, {"nothing"}, {top + "/one"}, {"a/*/*.txt"}, {"[bc]*"}} {
				args = append([]string{"find"}, args...)
				sameFacts(t, fmt.Sprint(args), values(t, ours(t, dir, args...)), values(t, stock(t, dir, args...)), plain)
			}
			for _, args := range [][]string{{first, second}, {second, first}, {"--metadata", first, second}, {first, first}, {first, list[2].ID}} {
				args = append([]string{"diff"}, args...)
				sameFacts(t, fmt.Sprint(args), values(t, ours(t, dir, args...)), values(t, stock(t, dir, args...)), inOrder)
			}
			for _, mode := range []string{"restore-size", "files-by-contents", "blobs-per-file", "raw-data"} {
				for _, args := range [][]string{{}, {"latest"}, {first, second}, {"--host", "host-1"}} {
					args = append([]string{"stats", "--mode", mode}, args...)
					sameFacts(t, fmt.Sprint(args), values(t, ours(t, dir, args...)), values(t, stock(t, dir, args...)),
						func(v []any) []any { return without(v, "total_uncompressed_size", "compression_ratio") })
				}
			}
			for _, args := range [][]string{{"--keep-last", "1"}, {"--keep-last", "1", "--group-by", ""}, {"--keep-daily", "1", "--keep-tag", "x0", "--group-by", "host"},
				{"--keep-within", "1h", "--group-by", "tags"}} {
				args = append([]string{"forget", "--dry-run"}, args...)
				line, _, _ := bytes.Cut(stock(t, dir, args...), []byte("\n")) // text follows
				sameFacts(t, fmt.Sprint(args), values(t, ours(t, dir, args...)), values(t, line), plain)
			}
			for _, what := range []string{"config", "masterkey"} {
				sameFacts(t, "cat "+what, values(t, ours(t, dir, "cat", what)), values(t, stock(t, dir, "cat", what)), nil)
			}
			sameFacts(t, "cat snapshot", values(t, ours(t, dir, "cat", "snapshot", first)), values(t, stock(t, dir, "cat", "snapshot", first)), inOrder)
			for _, kind := range []string{"snapshots", "index", "packs", "keys"} {
				var ids []string
				for _, v := range values(t, ours(t, dir, "list", kind)) {
					ids = append(ids, v.(map[string]any)["id"].(string))
				}
				slices.Sort(ids)
				theirs := strings.Fields(string(stock(t, dir, "list", kind)))
				slices.Sort(theirs)
				if !slices.Equal(ids, theirs) {
					t.Errorf("list %s = %v; stock restic lists %v", kind, ids, theirs)
				}
			}
			for _, kind := range []string{"key", "index"} {
				id := strings.Fields(string(stock(t, dir, "list", map[string]string{"key": "keys", "index": "index"}[kind])))[0]
				sameFacts(t, "cat "+kind, values(t, ours(t, dir, "cat", kind, id[:16])), values(t, stock(t, dir, "cat", kind, id)), nil)
			}

			// Blobs: stock restic tells the first snapshot only, and passes over the trees of roots. One of each type is
			// enough: each costs two programs.
			byType := make(map[string]string)
			for _, v := range values(t, ours(t, dir, "list", "blobs")) {
				id := v.(map[string]any)["id"].(string)
				if id != list[0].Tree && id != list[1].Tree && id != list[2].Tree {
					byType[v.(map[string]any)["type"].(string)] = id
				}
			}
			for kind, typ := range map[string]string{"--blob": "data", "--tree": "tree"} {
				id := byType[typ]
				ourPlaces, theirs := elements(values(t, ours(t, dir, "find", kind, id))), elements(values(t, stock(t, dir, "find", kind, id)))
				if len(theirs) == 0 {
					t.Errorf("stock restic finds no place of %s %s; ours are %v", typ, id, ourPlaces)
				}
				for _, p := range theirs {
					if !slices.ContainsFunc(ourPlaces, func(q any) bool { return text(p) == text(q) }) {
						t.Errorf("find %s %s lacks %s", kind, id, text(p))
					}
				}
				if a, b := ours(t, dir, "cat", "blob", id), stock(t, dir, "cat", "blob", id); !bytes.Equal(a, b) {
					t.Errorf("cat blob %s differs", id)
				}
			}
		})
	}
}

// Tags that we change are as if stock restic had changed them, and it finds nothing wrong.
func TestTagsAndForgetForStockRestic(t *testing.T) {
	for name, dir := range repositories(t) {
		t.Run(name, func(t *testing.T) {
			var list []struct{ ID string }
			succeed(t, json.Unmarshal(ours(t, dir, "snapshots"), &list))
			ours(t, dir, "tag", "--add", "new,even", "--remove", "x0", list[0].ID)
			ours(t, dir, "forget", list[1].ID)
			type snapshot struct {
				Original string
				Hostname string
				Tags     []string
			}
			var left []snapshot
			succeed(t, json.Unmarshal(stock(t, dir, "snapshots"), &left))
			want := []snapshot{{list[0].ID, "host-0", []string{"even", "new"}}, {"", "host-2", []string{"even", "x2"}}}
			if !reflect.DeepEqual(left, want) {
				t.Errorf("stock restic lists %+v; want %+v", left, want)
			}
			stock(t, dir, "check", "--read-data")
			if _, err := fs.Stat(os.DirFS(dir), "snapshots/"+list[0].ID); err == nil {
				t.Error("the snapshot with the old tags is still there")
			}
		})
	}
}
