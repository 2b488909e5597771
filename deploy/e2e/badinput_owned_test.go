package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// ownedRepositories shows that people's commands read the repositories of a node and the copies it holds, and change
// neither.
func ownedRepositories(t *testing.T, b *badNetwork) {
	b.record(t, "owned")
	password := b.county.Config.Path("keys", "repository-"+repositoryID+".password")
	other := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(other, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []struct{ name, dir, why string }{
		{"own", b.county.Config.Path("repositories", repositoryID), "written by the node of centre"},
		{"held", b.city.Config.Path("held", repositoryID), "a copy of repository"},
	} {
		t.Run(place.name, func(t *testing.T) {
			before := tree(t, place.dir)
			repo := func(args ...string) ran {
				return b.dengbei(t, append([]string{"repo", "--repo", place.dir, "--password-file", password, "--no-cache"}, args...)...)
			}
			repo("snapshots").want(t, 0)
			repo("key", "list").want(t, 0)
			for _, args := range [][]string{
				{"key", "add", "--new-password-file", other}, {"key", "passwd", "--new-password-file", other}, {"key", "remove", "00"},
				{"backup", filepath.Dir(other)}, {"forget", "latest"}, {"prune"}, {"repair", "index"},
			} {
				repo(args...).want(t, 1, place.why, "belongs to a node")
			}
			after := tree(t, place.dir)
			for name := range after {
				if _, ok := before[name]; !ok {
					t.Errorf("%s came", name)
				}
			}
			for name := range before {
				if _, ok := after[name]; !ok {
					t.Errorf("%s went", name)
				}
			}
		})
	}
}
