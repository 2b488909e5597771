package bench

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// envRun, set to 1, has the programs built and run.
const envRun = "DENGBEI_BENCH"

// output is what a program prints with --json.
type output struct {
	Program string
	Quick   bool
	Notes   []string
	Rows    []struct {
		Name     string
		OursName string `json:"ours_name"`
		Ours     *float64
		Peer     *float64
		PeerName string `json:"peer_name"`
		Unit     string
		Ratio    *float64
	}
}

// absent names a program that is not there.
const absent = "/nonexistent/program"

// runs returns what is run: every program at least once, on less than --quick has. Names of rows are those that stand there
// whatever peers are installed.
func runs(dengbei string) []run {
	return []run{
		{
			name: "backup of every corpus, with no peer there", program: "backup",
			args:  []string{"--size", "1", "--dengbei", dengbei, "--restic", absent, "--borg", absent, "--kopia", absent},
			rows:  slices.Concat(backupRows("small files"), backupRows("scans"), backupRows("SQL dump"), editedRows),
			peers: []string{"restic", "borg", "kopia"}, alone: true,
		},
		{
			name: "backup beside the peers that are installed", program: "backup",
			args:  []string{"--size", "1", "--dengbei", dengbei, "--corpus", "scans"},
			rows:  backupRows("scans"),
			peers: []string{"restic", "borg", "kopia"},
		},
		{
			// With so many blobs there is a table on disk.
			name: "index with its table", program: "index", args: []string{"--blobs", "300000", "--lookups", "20000"},
			rows: indexRows, peers: []string{"restic"},
		},
		{
			name: "index with no peer there", program: "index", args: []string{"--blobs", "20000", "--lookups", "20000", "--restic", absent},
			rows: indexRows, peers: []string{"restic"}, alone: true,
		},
		{
			name: "restore", program: "restore", args: []string{"--files", "1500", "--size", "64"}, rows: restoreRows, peers: []string{"restic"},
		},
		{
			name: "restore with no peer there", program: "restore", args: []string{"--files", "1500", "--size", "64", "--restic", absent},
			rows: restoreRows, peers: []string{"restic"}, alone: true,
		},
	}
}

// run is one run of a program.
type run struct {
	name, program string
	args          []string
	rows          []string // that it prints, perhaps beside others
	peers         []string // that it compares with, if they are there
	alone         bool     // none of them is there
}

func backupRows(corpus string) []string {
	var all []string
	for _, step := range []string{"backup", "unchanged backup", "restore", "check all data"} {
		for _, what := range []string{"rate", "CPU", "peak memory"} {
			all = append(all, corpus+": "+step+", "+what)
		}
	}
	return append(all, corpus+": backup, added")
}

var editedRows = []string{
	"SQL dump: edited backup, rate", "SQL dump: edited backup, CPU", "SQL dump: edited backup, peak memory", "SQL dump: edited backup, added",
}

var indexRows = []string{
	"build the table: time", "build the table: peak memory", "open: time", "open: resident memory", "open: peak memory",
	"after 20000 look-ups: resident memory", "after 20000 look-ups: peak memory",
	"look-up of a blob that is there: median", "look-up of a blob that is there: p99",
	"look-up of a blob that is not there: median", "look-up of a blob that is not there: p99",
	"place of a blob: median", "place of a blob: p99",
}

var restoreRows = []string{
	"1,500 files: peak memory", "1,500 files: time", "1,500 files: processor time",
	"sparse file of 64 MiB: peak memory", "sparse file of 64 MiB: time", "sparse file of 64 MiB: processor time",
}

func TestPrograms(t *testing.T) {
	if os.Getenv(envRun) != "1" {
		t.Skipf("builds and runs every program below deploy/bench: set %s=1 to run it", envRun)
	}
	dir := t.TempDir()
	programs := build(t, dir)
	all := runs(filepath.Join(dir, "dengbei"))
	for _, p := range programs {
		if !slices.ContainsFunc(all, func(r run) bool { return r.program == p }) {
			t.Errorf("no run of deploy/bench/%s: add one to runs", p)
		}
	}
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			work := t.TempDir()
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, r.program), slices.Concat([]string{"--quick", "--json", "--dir", work}, r.args)...)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			b, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
			}
			var out output
			if err := json.Unmarshal(b, &out); err != nil {
				t.Fatalf("%s prints no JSON: %v\n%s", cmd, err, b)
			}
			for _, breach := range check(r, out) {
				t.Error(breach)
			}
			if left, err := os.ReadDir(work); err != nil || len(left) != 0 {
				t.Errorf("%s leaves %v, %v", r.program, left, err)
			}
		})
	}
}

// build puts every program below this directory and dengbei into dir. It returns the names of the former.
func build(t *testing.T, dir string) []string {
	t.Helper()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatal(errors.Join(errors.New("list the programs"), err))
	}
	packages := strings.Fields(string(list))
	if len(packages) == 0 {
		t.Fatal("there are no programs")
	}
	args := slices.Concat([]string{"build", "-o", dir + string(filepath.Separator), "dengbei/cmd/dengbei"}, packages)
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for i, p := range packages {
		packages[i] = path.Base(p)
	}
	return packages
}

// check returns a sentence for each thing that is wrong with what a run printed.
func check(r run, out output) []string {
	var wrong []string
	bad := func(words ...string) { wrong = append(wrong, strings.Join(words, " ")) }
	if out.Program != r.program || !out.Quick {
		bad("the output is that of", out.Program, "or of no quick run")
	}
	names := map[string]bool{}
	once := map[[3]string]bool{}
	compared := map[string]bool{}
	for _, row := range out.Rows {
		names[row.Name] = true
		switch key := [3]string{row.Name, row.OursName, row.PeerName}; {
		case once[key]:
			bad("there are two rows", strings.Join(key[:], ", "))
		default:
			once[key] = true
		}
		if row.Name == "" || row.Unit == "" || row.Ours == nil {
			bad("row", row.Name, "has no name, unit or figure")
		}
		if (row.PeerName == "") != (row.Peer == nil) || row.PeerName == "" && row.Ratio != nil {
			bad("row", row.Name, "has a peer without a name, a name without a peer, or a ratio to nothing")
		}
		for _, p := range r.peers {
			if version, ok := strings.CutPrefix(row.PeerName, p+" "); ok && version != "" {
				compared[p] = true
			}
		}
	}
	for _, want := range r.rows {
		if !names[want] {
			bad("there is no row", want)
		}
	}
	for _, p := range r.peers {
		noted := slices.ContainsFunc(out.Notes, func(n string) bool { return strings.HasPrefix(n, p+" was not compared: ") })
		if compared[p] == noted || r.alone && compared[p] {
			bad(p, "is neither compared nor noted as absent, or both")
		}
	}
	return wrong
}

func TestCheck(t *testing.T) {
	const good = `{"program": "x", "quick": true, "notes": ["borg was not compared: no such file"], "rows": [
		{"name": "a: time", "ours": 0, "unit": "s", "peer": 2, "peer_name": "restic 0.19.1", "ratio": 2}, {"name": "b: time", "ours": 1, "unit": "s"}]}`
	r := run{program: "x", rows: []string{"a: time", "b: time"}, peers: []string{"restic", "borg"}}
	for _, tt := range []struct {
		name, from, to string
		want           int // breaches
	}{
		{"as it should be", "", "", 0},
		{"the figures of another program", `"x"`, `"y"`, 1},
		{"a full run", "true", "false", 1},
		{"a row is missing", "b: time", "c: time", 1},
		{"a row twice", `"a: time", "ours": 0, "unit": "s", "peer": 2, "peer_name": "restic 0.19.1", "ratio": 2`, `"b: time", "ours": 0, "unit": "s"`, 3},
		{"a row without our figure", `"ours": 1,`, "", 1},
		{"a row without a unit", `"ours": 1, "unit": "s"`, `"ours": 1`, 1},
		{"a peer's figure without its name", `"ours": 1,`, `"ours": 1, "peer": 3,`, 1},
		{"a ratio to nothing", `"ours": 1,`, `"ours": 1, "ratio": 3,`, 1},
		{"a peer without a version", "restic 0.19.1", "restic ", 1},
		{"a peer that is absent in silence", "borg was not compared", "quiet", 1},
		{"a peer that is both compared and not", "borg was not", "restic was not", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out output
			if err := json.Unmarshal([]byte(strings.Replace(good, tt.from, tt.to, 1)), &out); err != nil {
				t.Fatal(err)
			}
			if got := check(r, out); len(got) != tt.want {
				t.Errorf("check = %q; want %d breaches", got, tt.want)
			}
		})
	}
}
