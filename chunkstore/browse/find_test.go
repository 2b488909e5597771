package browse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func day(n int) time.Time { return time.Date(2026, 1, n, 8, 0, 0, 0, time.UTC) }

func TestFind(t *testing.T) {
	repo, files := newRepo(t)
	a := save(t, repo, repository.Snapshot{Time: day(1), Hostname: "centre", Paths: []string{"/records"}, Tags: []string{"x", "y"}})
	b := save(t, repo, repository.Snapshot{Time: day(2), Hostname: "other", Paths: []string{"/records", "/lists"}})
	c := save(t, repo, repository.Snapshot{Time: day(3), Hostname: "centre", Paths: []string{"/lists"}, Tags: []string{"x"}})
	p := save(t, repo, repository.Snapshot{Time: day(4), Hostname: "centre", Paths: []string{"/lists"}, Tags: []string{"partial"}})
	junk := plant(t, files, chunkstore.Snapshot, []byte("junk"))

	for _, tt := range []struct {
		name, spec string
		filter     Filter
		want       *repository.Snapshot
		wantPath   string
		wantErr    error
		wantText   string
	}{
		{"latest is the newest that is whole", "latest", Filter{}, c, "/", nil, ""},
		{"latest of a host", "latest", Filter{Hosts: []string{"other"}}, b, "/", nil, ""},
		{"latest of one host or another", "latest", Filter{Hosts: []string{"other", "centre"}}, c, "/", nil, ""},
		{"latest with all tags of a list", "latest", Filter{Tags: []string{"x,y"}}, a, "/", nil, ""},
		{"latest with one list or another", "latest", Filter{Tags: []string{"x,y", "x"}}, c, "/", nil, ""},
		{"latest without tags", "latest", Filter{Tags: []string{""}}, b, "/", nil, ""},
		{"latest of a path", "latest", Filter{Paths: []string{"/records"}}, b, "/", nil, ""},
		{"latest of all paths", "latest", Filter{Paths: []string{"/records", "/lists"}}, b, "/", nil, ""},
		{"a partial one when asked for", "latest", Filter{Tags: []string{"partial"}}, p, "/", nil, ""},
		{"nothing fits", "latest", Filter{Hosts: []string{"nobody"}}, nil, "", ErrNoSnapshot, `none of 4 snapshots fits --host "nobody" (hosts: "centre", "other"; 1 cannot`},
		{"conditions join", "latest", Filter{Hosts: []string{"other"}, Tags: []string{"x"}}, nil, "", ErrNoSnapshot, "--tag"},
		{"an ID", a.ID.Hex(), Filter{}, a, "/", nil, ""},
		{"an ID heeds no filter", a.ID.Hex(), Filter{Hosts: []string{"nobody"}}, a, "/", nil, ""},
		{"the beginning of one", a.ID.Hex()[:8], Filter{}, a, "/", nil, ""},
		{"in capitals", strings.ToUpper(a.ID.Hex()[:12]), Filter{}, a, "/", nil, ""},
		{"a partial one by ID", p.ID.Hex()[:8], Filter{}, p, "/", nil, ""},
		{"a folder", "latest:folder", Filter{}, c, "/folder", nil, ""},
		{"with slashes", "latest:/folder//", Filter{}, c, "/folder", nil, ""},
		{"dots stay inside", "latest:../../folder/./x/..", Filter{}, c, "/folder", nil, ""},
		{"a file", "latest:folder/file", Filter{}, c, "/folder/file", nil, ""},
		{"nothing behind the colon", "latest:", Filter{}, c, "/", nil, ""},
		{"a path that is not there", "latest:folder/none/deep", Filter{}, nil, "", ErrNoPath, `there is no "none" in "/folder"`},
		{"a path through a file", "latest:folder/file/x", Filter{}, nil, "", ErrNoPath, "is a file"},
		{"a path through a symlink", "latest:folder/link/x", Filter{}, nil, "", ErrNoPath, "is a symlink"},
		{"an unknown ID", strings.Repeat("0", 64), Filter{}, nil, "", ErrNoSnapshot, "snapshots lists all"},
		{"an unknown beginning", "00000000000", Filter{}, nil, "", ErrNoSnapshot, "snapshots lists all"},
		{"junk", junk.Hex()[:10], Filter{}, nil, "", repository.ErrUnreadable, "cannot be read"},
		{"junk by its ID", junk.Hex(), Filter{}, nil, "", repository.ErrUnreadable, junk.Hex()},
		{"no ID", "newest", Filter{}, nil, "", ErrSpec, "want latest"},
		{"nothing", "", Filter{}, nil, "", ErrSpec, "want latest"},
		{"too long", strings.Repeat("0", 65), Filter{}, nil, "", ErrSpec, "want latest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Find(t.Context(), repo, tt.spec, tt.filter)
			if tt.wantErr != nil {
				if !errors.Is(err, tt.wantErr) || !strings.Contains(err.Error(), tt.wantText) {
					t.Fatalf("Find(%q, %v) = %v; want %v with %q", tt.spec, tt.filter, err, tt.wantErr, tt.wantText)
				}
				return
			}
			must(t, err)
			if f.Snapshot.ID != tt.want.ID || f.Path != tt.wantPath {
				t.Errorf("Find(%q, %v) = %s %q; want %s %q", tt.spec, tt.filter, f.Snapshot.ID, f.Path, tt.want.ID, tt.wantPath)
			}
			if isFile := tt.wantPath == "/folder/file"; isFile != (f.Directory() != nil) || isFile == (f.Node == nil || f.Node.Type != "file") {
				t.Errorf("Find(%q) gives node %v, Directory() = %v", tt.spec, f.Node, f.Directory())
			}
			if tt.spec == Latest && (len(f.PassedOver) != 1 || f.PassedOver[0].Name.ID != junk) {
				t.Errorf("Find(%q) passed over %v; want the junk", tt.spec, f.PassedOver)
			}
		})
	}
}

// Snapshots that begin alike, and junk that begins like a sound one.
func TestFindTellsCandidates(t *testing.T) {
	repo, files := newRepo(t)
	byDigit := make(map[byte][]*repository.Snapshot)
	var twins []*repository.Snapshot
	for i := 1; twins == nil; i++ {
		sn := save(t, repo, repository.Snapshot{Time: day(i), Hostname: "centre"})
		d := sn.ID.Hex()[0]
		if byDigit[d] = append(byDigit[d], sn); len(byDigit[d]) == 2 {
			twins = byDigit[d]
		}
	}
	_, err := Find(t.Context(), repo, twins[0].ID.Hex()[:1], Filter{})
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), Short(twins[0].ID)) || !strings.Contains(err.Error(), Short(twins[1].ID)) {
		t.Errorf("Find(%q) = %v; want ErrAmbiguous with both named", twins[0].ID.Hex()[:1], err)
	}
	for i := 0; ; i++ {
		if d := digest.Of(fmt.Append(nil, "junk", i)); d.Hex()[:2] == twins[0].ID.Hex()[:2] {
			plant(t, files, chunkstore.Snapshot, fmt.Append(nil, "junk", i))
			break
		}
	}
	f, err := Find(t.Context(), repo, twins[0].ID.Hex()[:2], Filter{})
	if twins[0].ID.Hex()[:2] != twins[1].ID.Hex()[:2] && (err != nil || f.Snapshot.ID != twins[0].ID || len(f.PassedOver) != 1) {
		t.Errorf("Find beside junk that begins alike = %v, %v; want the sound one and a note", f, err)
	}
}

func TestFindOnlyPartial(t *testing.T) {
	repo, _ := newRepo(t)
	if _, err := Find(t.Context(), repo, Latest, Filter{}); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("Find(latest) in an empty repository = %v; want ErrNoSnapshot", err)
	}
	p := save(t, repo, repository.Snapshot{Tags: []string{repository.PartialTag}})
	if _, err := Find(t.Context(), repo, Latest, Filter{}); !errors.Is(err, ErrNoSnapshot) || !strings.Contains(err.Error(), Short(p.ID)) {
		t.Errorf("Find(latest) = %v; want ErrNoSnapshot with the partial one named", err)
	}
}

func TestSelect(t *testing.T) {
	repo, files := newRepo(t)
	a := save(t, repo, repository.Snapshot{Time: day(2), Hostname: "a"})
	b := save(t, repo, repository.Snapshot{Time: day(1), Hostname: "b"})
	plant(t, files, chunkstore.Snapshot, []byte("{}"))
	ids := func(list []*repository.Snapshot) (out []digest.Digest) {
		for _, sn := range list {
			out = append(out, sn.ID)
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		specs   []string
		filter  Filter
		want    []digest.Digest
		wantErr error
	}{
		{"all, the oldest first", nil, Filter{}, []digest.Digest{b.ID, a.ID}, nil},
		{"those of a host", nil, Filter{Hosts: []string{"a"}}, []digest.Digest{a.ID}, nil},
		{"as named, each once", []string{Latest, b.ID.Hex(), a.ID.Hex()}, Filter{}, []digest.Digest{a.ID, b.ID}, nil},
		{"none", nil, Filter{Hosts: []string{"c"}}, nil, nil},
		{"one of two is not there", []string{Latest, "00000000"}, Filter{}, nil, ErrNoSnapshot},
		{"no paths", []string{"latest:folder"}, Filter{}, nil, ErrSpec},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, passed, err := Select(t.Context(), repo, tt.specs, tt.filter)
			if !errors.Is(err, tt.wantErr) || !slices.Equal(ids(got), tt.want) {
				t.Errorf("Select(%q, %v) = %v, %v; want %v, %v", tt.specs, tt.filter, ids(got), err, tt.want, tt.wantErr)
			}
			if len(tt.specs) == 0 && len(passed) != 1 {
				t.Errorf("Select passed over %v; want one file", passed)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Select(ctx, repo, nil, Filter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Select with an ended context = %v", err)
	}
}

// A snapshot whose file has rotted is an obstacle to itself only.
func TestFindBesideRot(t *testing.T) {
	repo, files := newRepo(t)
	a := save(t, repo, repository.Snapshot{Time: day(1)})
	b := save(t, repo, repository.Snapshot{Time: day(2)})
	p := filepath.Join(files.Dir(), "snapshots", b.ID.Hex())
	must(t, os.Chmod(p, 0o600))
	must(t, os.Truncate(p, 40))
	f, err := Find(t.Context(), repo, Latest, Filter{})
	must(t, err)
	if f.Snapshot.ID != a.ID || len(f.PassedOver) != 1 || f.PassedOver[0].Name.ID != b.ID {
		t.Errorf("Find(latest) = %s, passed over %v; want %s and the rotten one", f.Snapshot.ID, f.PassedOver, a.ID)
	}
}
