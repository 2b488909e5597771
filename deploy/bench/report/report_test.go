package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"strings"
	"testing"
)

func TestPrint(t *testing.T) {
	var f Flags
	set := flag.NewFlagSet("x", flag.ContinueOnError)
	f.Register(set)
	if err := set.Parse([]string{"--quick", "-json"}); err != nil || !f.Quick || !f.JSON {
		t.Fatalf("flags = %+v, %v", f, err)
	}
	r := New("x")
	r.SetQuick(true)
	r.Add(Row{Name: "alone", Ours: 2.5, Unit: "s", Peer: 9, Ratio: 3})
	r.Add(Row{Name: "beside", Ours: 12345, Unit: "MiB", PeerName: "other 1.0", Peer: 0, Ratio: 0.5})
	r.Add(Row{Name: "nothing", Ours: 0, Unit: "MiB", PeerName: "other 1.0", Peer: 1, Ratio: math.Inf(1)})
	var b bytes.Buffer
	if err := r.Print(&b, true); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Quick bool
		Rows  []map[string]any
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"name": "alone", "ours": 2.5, "unit": "s"},
		{"name": "beside", "ours": 12345.0, "unit": "MiB", "peer": 0.0, "peer_name": "other 1.0", "ratio": 0.5},
		{"name": "nothing", "ours": 0.0, "unit": "MiB", "peer": 1.0, "peer_name": "other 1.0"},
	}
	if len(got.Rows) != len(want) || !got.Quick {
		t.Fatalf("%s; want %v", b.Bytes(), want)
	}
	for i, w := range want {
		if len(got.Rows[i]) != len(w) {
			t.Errorf("row %d = %v; want %v", i, got.Rows[i], w)
		}
		for k, v := range w {
			if got.Rows[i][k] != v {
				t.Errorf("row %d, %s = %v; want %v", i, k, got.Rows[i][k], v)
			}
		}
	}
	b.Reset()
	if err := r.Print(&b, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"alone    2.50 ", "12345", "other 1.0", "0.50"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, b.String())
		}
	}
	r.Add(Row{Name: "broken", Ours: math.NaN()})
	if err := r.Print(&b, true); err == nil {
		t.Error("a row without a figure is printed")
	}
}

func TestNotCompared(t *testing.T) {
	r := New("x")
	r.NotCompared("peer", errors.New("it is not there"))
	var b bytes.Buffer
	if err := r.Print(&b, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "peer was not compared: it is not there") {
		t.Errorf("the report does not say what was not compared:\n%s", b.String())
	}
}
