package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// badStarts are nodes that must not run.
func badStarts(t *testing.T, b *badNetwork) {
	enrolled := b.foreign(t)
	for _, tt := range []struct {
		name, text string
		says       []string
	}{
		{"unknown key", "data_dri: x\ncentre: \"330000\"\n", []string{`unknown key "data_dri"`}},
		{"unknown key inside", "data_dir: x\ncentre: \"330000\"\npeer:\n  lisen: x\n", []string{`unknown key "peer.lisen"`}},
		{"no data directory", "centre: \"330000\"\n", []string{"data_dir is empty", "name the directory"}},
		{"no centre", "data_dir: x\n", []string{`centre "" is not a six-digit GB/T 2260 code`}},
		{"centre that is a number", "data_dir: x\ncentre: 33\n", []string{"centre", "six-digit GB/T 2260 code"}},
		{"wrong centre", fmt.Sprintf("data_dir: %q\ncentre: \"330282\"\n", enrolled.DataDir), []string{enrolled.DataDir, "belongs to centre 330000, the configuration is for 330282", "a directory of its own"}},
		{"no port", "data_dir: x\ncentre: \"330000\"\nweb:\n  listen: nowhere\n", []string{`web.listen "nowhere"`}},
		{"unknown timing", "data_dir: x\ncentre: \"330000\"\ntiming: moon\n", []string{`timing "moon", want wan or lan`}},
		{"no place on earth", "data_dir: x\ncentre: \"330000\"\nlatitude: 91\n", []string{"latitude 91", "no place on earth"}},
		{"not enrolled", "data_dir: x\ncentre: \"330000\"\n", []string{"/x: not part of a network", "network init", "node enrol"}},
		{"no YAML", "\tdata_dir x", []string{"node.yaml"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "node.yaml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			b.dengbei(t, "node", "run", "--config", file).want(t, 3, tt.says...)
		})
	}
	t.Run("no file", func(t *testing.T) {
		b.dengbei(t, "node", "run", "--config", filepath.Join(t.TempDir(), "none.yaml")).want(t, 3, "none.yaml", "no such file")
	})
	t.Run("data directory open to others", func(t *testing.T) {
		c := writeConfig(t, "330000", "")
		if err := errors.Join(os.Mkdir(c.DataDir, 0o700), os.Chmod(c.DataDir, 0o755)); err != nil {
			t.Fatal(err)
		}
		b.dengbei(t, "node", "run", "--config", c.File).want(t, 3, c.DataDir, "has mode 0755", "run chmod 0700 on it")
	})
	for _, port := range []string{"peer", "gossip", "web"} {
		t.Run(port+" port in use", func(t *testing.T) {
			l, err := net.Listen("tcp", enrolled.Ports[port])
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			b.dengbei(t, "node", "run", "--config", enrolled.File).want(t, 3, port+" port", enrolled.Ports[port], "address already in use")
		})
	}
	t.Run("second run on the same directory", func(t *testing.T) {
		text, err := os.ReadFile(b.county.File)
		if err != nil {
			t.Fatal(err)
		}
		same := filepath.Join(t.TempDir(), "same.yaml")
		other := writeConfig(t, "330282", "")
		moved := string(text)
		for port, listen := range map[string]string{"peer": b.county.Config.Peer.Listen, "gossip": b.county.Config.Gossip.Listen, "web": b.county.Config.Web.Listen} {
			moved = strings.ReplaceAll(moved, listen, other.Ports[port])
		}
		if err := os.WriteFile(same, []byte(moved), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{b.county.File, same} {
			b.dengbei(t, "node", "run", "--config", file).want(t, 3, "quarantine", "another process has it open")
		}
	})
}
