package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoadFillsDefaults(t *testing.T) {
	p := write(t, "data_dir: data\ncentre: \"330102\"\npeer:\n  listen: 127.0.0.1:7400\nfailure_domain:\n  site: a\n")
	c, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(p), "data"); c.DataDir != want {
		t.Errorf("DataDir = %s; want %s, beside the file", c.DataDir, want)
	}
	if c.Peer.Advertise != "127.0.0.1:7400" || c.Timing != "wan" || c.Domain.Site != "a" || c.Gossip.Listen != "0.0.0.0:7401" {
		t.Errorf("Load = %+v; want defaults filled in", c)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct{ name, give, want string }{
		{"unknown key", "data_dir: d\ncentre: \"330102\"\npear: 1\n", `unknown key "pear"`},
		{"no data directory", "centre: \"330102\"\n", "data_dir is empty"},
		{"code of five digits", "data_dir: d\ncentre: \"33010\"\n", "six-digit"},
		{"address without port", "data_dir: d\ncentre: \"330102\"\npeer:\n  listen: localhost\n", "peer.listen"},
		{"unknown timing", "data_dir: d\ncentre: \"330102\"\ntiming: fast\n", "timing"},
		{"no place on earth", "data_dir: d\ncentre: \"330102\"\nlatitude: 91\n", "place on earth"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(write(t, tt.give))
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Load = %v; want ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func TestMakeDataDirRefusesOpenMode(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := Config{DataDir: dir}
	if err := c.MakeDataDir(); !errors.Is(err, ErrInvalid) {
		t.Errorf("MakeDataDir on mode 0755 = %v; want ErrInvalid", err)
	}
}

func TestLoadReadsNoDeviceAndNothingHuge(t *testing.T) {
	huge := write(t, "")
	if err := os.Truncate(huge, 3<<30); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{huge, os.DevNull} {
		if _, err := Load(path); !errors.Is(err, ErrInvalid) {
			t.Errorf("Load(%s) = %v; want ErrInvalid", path, err)
		}
	}
}
