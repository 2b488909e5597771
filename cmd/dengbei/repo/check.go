package repo

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dengbei/chunkstore"
	"dengbei/chunkstore/check"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// checkError is a finding as stock restic's JSON has it, with fields of our own behind it.
type checkError struct {
	MessageType string          `json:"message_type"` // "error"
	Message     string          `json:"message"`
	File        string          `json:"file"`
	Harmless    bool            `json:"harmless"`
	Affected    int             `json:"affected_paths"`
	Affects     []checkAffected `json:"affects"`
}

type checkAffected struct {
	Snapshot string `json:"snapshot"`
	Path     string `json:"path"`
}

// checkSummary is stock restic's summary, with what was looked at behind it.
type checkSummary struct {
	MessageType        string   `json:"message_type"` // "summary"
	NumErrors          int      `json:"num_errors"`
	BrokenPacks        []string `json:"broken_packs"`
	SuggestRepairIndex bool     `json:"suggest_repair_index"`
	SuggestPrune       bool     `json:"suggest_prune"`
	NumHints           int      `json:"num_hints"` // harmless findings
	IndexFiles         int      `json:"index_files"`
	Packs              int      `json:"packs"`
	Snapshots          int      `json:"snapshots"`
	Trees              int      `json:"trees"`
	PacksRead          int      `json:"packs_read"`
	BytesRead          int64    `json:"bytes_read"`
	PacksSkipped       int      `json:"packs_skipped"`
}

func (r *commands) checkCommand() *cobra.Command {
	var o check.Options
	var subset string
	var list int
	cmd := &cobra.Command{
		Use:   "check",
		Short: "look for damage and say what suffers from it",
		Long: `Check that everything the snapshots name is there and fits: keys, index, packs, directories. With --read-data every byte of every
pack is read and verified as well. Each damaged file is named with the snapshots and paths that suffer. Nothing is changed; see
"repo repair".

--read-data-subset reads part of the packs: "2/5" the second of five parts, "2.5%" or "10G" so many, at random or, with --state, those
verified longest ago. --state FILE remembers when each pack was verified, so that --read-data goes on after an interruption.

What hinders no reader, such as a pack that an interrupted backup left, is named but is no error.`,
		Args: cobra.NoArgs,
		RunE: r.run(func(cmd *cobra.Command, _ []string) (err error) {
			if subset != "" {
				if o.ReadData {
					return term.Usagef("--read-data and --read-data-subset exclude each other")
				}
				if o.Subset, err = check.ParseSubset(subset); err != nil {
					return term.Usagef("--read-data-subset %v", err)
				}
			}
			if o.State != "" && !o.ReadData && subset == "" {
				return term.Usagef("--state is for --read-data and --read-data-subset")
			}
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			report, err := r.examine(cmd, repo, o)
			if err != nil {
				return err
			}
			if report.StateErr != nil {
				r.opener.note("%v: ignored, everything counts as not verified", report.StateErr)
			}
			return r.showReport(report, list)
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.ReadData, "read-data", false, "read and verify every byte")
	f.StringVar(&subset, "read-data-subset", "", "read and verify a `part`: n/t, x% or a size")
	f.StringVar(&o.State, "state", "", "`file` that remembers which pack was verified when")
	f.IntVar(&list, "list", 10, "name up to `N` paths that suffer from each damaged file")
	return cmd
}

// examine runs the check and shows how far it is.
func (r *commands) examine(cmd *cobra.Command, repo *opened, o check.Options) (*check.Report, error) {
	if !o.ReadData && o.Subset.IsZero() || r.opener.quiet {
		return check.Examine(cmd.Context(), repo.Repository, o)
	}
	bar := r.NewProgress("reading packs", 0, true)
	defer bar.End()
	o.Progress = func(p check.Progress) { bar.Set(p.Bytes, p.BytesTotal) }
	return check.Examine(cmd.Context(), repo.Repository, o)
}

// showReport prints what was found. Damage is an error.
func (r *commands) showReport(report *check.Report, list int) error {
	s := checkSummary{
		MessageType: "summary", BrokenPacks: []string{}, IndexFiles: report.IndexFiles, Packs: report.Packs, Snapshots: report.Snapshots,
		Trees: report.Trees, PacksRead: report.PacksRead, BytesRead: report.BytesRead, PacksSkipped: report.PacksSkipped,
	}
	suffering := false
	for _, f := range report.Findings {
		s.count(f)
		suffering = suffering || f.AffectedPaths() > 0
		if r.JSON {
			if err := r.Event(errorOf(f)); err != nil {
				return err
			}
			continue
		}
		if f.Harmless && r.opener.quiet {
			continue
		}
		fmt.Fprintf(r.Out, "%s\n", term.Safe(f.String()))
		for i, a := range f.Affects {
			if i == list {
				break
			}
			fmt.Fprintf(r.Out, "  %s %s\n", a.Snapshot.Hex()[:8], term.Safe(a.Path))
		}
		if n := f.AffectedPaths(); n > min(list, len(f.Affects)) {
			fmt.Fprintf(r.Out, "  and %d more paths\n", n-min(list, len(f.Affects)))
		}
	}
	if r.JSON {
		if err := r.Event(s); err != nil {
			return err
		}
	} else if err := r.Print(s, func(w io.Writer) { s.text(w, suffering) }); err != nil {
		return err
	}
	if s.NumErrors > 0 {
		return fmt.Errorf("%d files of the repository are damaged or missing", s.NumErrors)
	}
	return nil
}

// count enters a finding into the summary.
func (s *checkSummary) count(f check.Finding) {
	if f.Harmless {
		s.NumHints++
		s.SuggestPrune = s.SuggestPrune || errors.Is(f.Err, check.ErrUnindexed)
		s.SuggestRepairIndex = s.SuggestRepairIndex || errors.Is(f.Err, check.ErrSplit) || errors.Is(f.Err, check.ErrRepeated)
		return
	}
	s.NumErrors++
	switch {
	case errors.Is(f.Err, check.ErrMissing), f.Name.Kind == chunkstore.Index:
		s.SuggestRepairIndex = true
	case f.Name.Kind == chunkstore.Pack:
		s.BrokenPacks = append(s.BrokenPacks, f.Name.ID.Hex())
	case f.Name.Kind == chunkstore.Snapshot && errors.Is(f.Err, repository.ErrNoBlob):
		s.SuggestRepairIndex = true
	}
}

func (s *checkSummary) text(w io.Writer, suffering bool) {
	fmt.Fprintf(w, "%d snapshots, %d directories, %d packs, %d index files looked at\n", s.Snapshots, s.Trees, s.Packs, s.IndexFiles)
	if s.PacksRead > 0 || s.PacksSkipped > 0 {
		fmt.Fprintf(w, "%d packs read and verified, %s\n", s.PacksRead, term.ByteCount(uint64(s.BytesRead)))
	}
	if s.PacksSkipped > 0 {
		fmt.Fprintf(w, "%d packs not read again: the state file says they were verified\n", s.PacksSkipped)
	}
	if s.NumErrors == 0 {
		fmt.Fprintln(w, "no errors were found")
	} else {
		fmt.Fprintln(w, "If there is another copy of the repository, mend this one first with: repo repair from OTHER")
	}
	if s.SuggestRepairIndex {
		fmt.Fprintln(w, "The index does not fit the packs. Mend it with: repo repair index")
	}
	if len(s.BrokenPacks) > 0 {
		fmt.Fprintln(w, "Save what can be read of the damaged packs with: repo repair packs ID…")
	}
	if suffering {
		fmt.Fprintln(w, "When nothing else helps, leave out what is lost with: repo repair snapshots --forget")
	}
	if s.SuggestPrune {
		fmt.Fprintln(w, "Packs in no index are left over from interrupted backups, or planted. The next backup uses them, or remove them with: repo prune")
	}
}

func errorOf(f check.Finding) checkError {
	e := checkError{MessageType: "error", Message: f.String(), File: f.Name.String(), Harmless: f.Harmless, Affected: f.AffectedPaths(), Affects: []checkAffected{}}
	if f.Harmless {
		e.MessageType = "hint"
	}
	for _, a := range f.Affects {
		e.Affects = append(e.Affects, checkAffected{a.Snapshot.Hex(), a.Path})
	}
	return e
}
