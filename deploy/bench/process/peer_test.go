package process

import (
	"strings"
	"testing"
)

func TestFindPeer(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         Peer
		wantErr      string
	}{
		{"restic's line", "[ $1 = version ] && echo restic 0.19.1 compiled with go1.26.8 on linux/amd64",
			Peer{Version: "peer 0.19.1", Build: "restic 0.19.1 compiled with go1.26.8 on linux/amd64"}, ""},
		{"kopia's line", "echo 'v0.23.1 build: -(unknown_revision) from: '", Peer{Version: "peer 0.23.1", Build: "v0.23.1 build: -(unknown_revision) from:"}, ""},
		{"several lines", "echo etcd Version: 3.7.0-rc.1; echo Git SHA: 1.2", Peer{Version: "peer 3.7.0-rc.1", Build: "etcd Version: 3.7.0-rc.1"}, ""},
		{"it fails", "echo no such command >&2; exit 2", Peer{}, "exit status 2: no such command"},
		{"it says nothing", "exit 0", Peer{}, "no version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := program(t, tt.script)
			got, err := FindPeer(t.Context(), "peer", path, "version")
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("FindPeer = %+v, %v; want an error with %q", got, err, tt.wantErr)
				}
				return
			}
			tt.want.Path = path
			if err != nil || got != tt.want {
				t.Errorf("FindPeer = %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	if _, err := FindPeer(t.Context(), "peer", "/nonexistent", "version"); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("FindPeer of a program that is not there = %v; want an error that names it", err)
	}
}
