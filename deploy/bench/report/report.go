// Package report is the flags and the form of results that the programs below deploy/bench have in common.
//
// Every program takes --quick (the whole run within 60 seconds, on less data) and --json, which prints one object:
//
//	{"program": "…", "quick": false, "notes": ["…"], "rows": [{"name": "…", "ours": 1, "peer": 2, "peer_name": "…", "unit": "…", "ratio": 2}]}
//
// A row without a peer has no peer, peer_name or ratio. What was not measured has no row.
package report

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"text/tabwriter"
)

// Flags are the flags that every program has.
type Flags struct {
	Quick bool
	JSON  bool
}

// Register adds the flags to set.
func (f *Flags) Register(set *flag.FlagSet) {
	set.BoolVar(&f.Quick, "quick", false, "less data, at most 60 seconds")
	set.BoolVar(&f.JSON, "json", false, "print the results as JSON")
}

// Row is one measurement.
type Row struct {
	Name     string
	OursName string // which of several forms of ours; empty for the one there is
	Ours     float64
	Peer     float64 // meaningless without PeerName
	PeerName string  // program and version; empty where there is nothing to compare with
	Unit     string
	Ratio    float64 // above 1 says that ours is better; 0, infinity and NaN say nothing
}

// rowJSON is a Row in the output.
type rowJSON struct {
	Name     string   `json:"name"`
	OursName string   `json:"ours_name,omitempty"`
	Ours     float64  `json:"ours"`
	Peer     *float64 `json:"peer,omitempty"`
	PeerName string   `json:"peer_name,omitempty"`
	Unit     string   `json:"unit"`
	Ratio    *float64 `json:"ratio,omitempty"`
}

// Report collects rows. The zero Report has no name.
type Report struct {
	program string
	quick   bool
	notes   []string
	rows    []Row
}

// New starts the report of a program with a note of the machine.
func New(program string) *Report {
	r := &Report{program: program}
	r.Note("%s %s/%s, %d processors", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	return r
}

// SetQuick notes that the figures are those of a quick run, which proves less.
func (r *Report) SetQuick(quick bool) { r.quick = quick }

// Note adds a line that says under which conditions the figures came about.
func (r *Report) Note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// NotCompared notes that there are no figures of a peer, and why.
func (r *Report) NotCompared(name string, why error) { r.Note("%s was not compared: %v", name, why) }

// Add adds a row.
func (r *Report) Add(row Row) { r.rows = append(r.rows, row) }

// Print writes the report as a table or as JSON.
func (r *Report) Print(w io.Writer, asJSON bool) error {
	if asJSON {
		return r.printJSON(w)
	}
	return r.printTable(w)
}

func (r *Report) printJSON(w io.Writer) error {
	out := struct {
		Program string    `json:"program"`
		Quick   bool      `json:"quick"`
		Notes   []string  `json:"notes"`
		Rows    []rowJSON `json:"rows"`
	}{r.program, r.quick, r.notes, make([]rowJSON, 0, len(r.rows))}
	for _, row := range r.rows {
		j := rowJSON{Name: row.Name, OursName: row.OursName, Ours: row.Ours, PeerName: row.PeerName, Unit: row.Unit}
		if math.IsInf(row.Ours, 0) || math.IsNaN(row.Ours) {
			return fmt.Errorf("report %s: row %q is %v", r.program, row.Name, row.Ours)
		}
		if row.PeerName != "" {
			j.Peer = &row.Peer
		}
		if row.hasRatio() {
			j.Ratio = &row.Ratio
		}
		out.Rows = append(out.Rows, j)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

func (r *Row) hasRatio() bool {
	return r.PeerName != "" && r.Ratio != 0 && !math.IsInf(r.Ratio, 0) && !math.IsNaN(r.Ratio)
}

func (r *Report) printTable(w io.Writer) error {
	for _, n := range r.notes {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nwhat\tours\t\tunit\tpeer\t\tratio\n")
	for _, row := range r.rows {
		peer, ratio := "", ""
		if row.PeerName != "" {
			peer = figure(row.Peer)
		}
		if row.hasRatio() {
			ratio = strconv.FormatFloat(row.Ratio, 'f', 2, 64)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Name, figure(row.Ours), row.OursName, row.Unit, peer, row.PeerName, ratio)
	}
	return t.Flush()
}

// figure writes v with three digits that count.
func figure(v float64) string {
	digits := 0
	for x := math.Abs(v); x > 0 && x < 100 && digits < 3; x *= 10 {
		digits++
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
