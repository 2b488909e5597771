package config

import (
	"path/filepath"
	"strings"
	"testing"

	"dengbei/node/config"
)

func TestExamplesLoad(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("Glob(*.yaml) = %v, %v; want three files", files, err)
	}
	used := map[string]string{} // what every centre has to have for itself
	for _, file := range files {
		c, err := config.Load(file)
		if err != nil {
			t.Errorf("Load(%s) = %v; want no error", file, err)
			continue
		}
		if want := strings.TrimSuffix(file, ".yaml"); c.Centre != want {
			t.Errorf("%s: centre = %s; want %s, as the file is named", file, c.Centre, want)
		}
		d := c.Domain
		for _, v := range []string{c.Peer.Advertise, c.Gossip.Advertise, c.Web.Advertise, d.Site, d.Power, d.Array, d.Administrator} {
			if v == "" {
				t.Errorf("%s: an address or a failure domain is empty", file)
			}
			if other, ok := used[v]; ok {
				t.Errorf("%s: %q is used by %s too; copies there would count as one place", file, v, other)
			}
			used[v] = file
		}
		if c.Longitude == 0 || c.Latitude == 0 {
			t.Errorf("%s: no coordinates", file)
		}
	}
}
