package repo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/pattern"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
	"dengbei/cmd/dengbei/term"
)

// restoring holds the options of restore.
type restoring struct {
	*commands
	sel     selection
	target  string
	options restore.Options

	overwrite                                          string
	include, includeFold, exclude, excludeFold         []string
	includeFile, includeFoldFile, excludeFile, foldOut []string
}

func (r *commands) restoreCommand() *cobra.Command {
	o := &restoring{commands: r}
	cmd := &cobra.Command{
		Use:   "restore SNAPSHOT[:FOLDER] --target DIR",
		Short: "bring files back from a snapshot",
		Long: `Restore a snapshot into the directory --target: latest, or the beginning of an ID, and with :FOLDER behind it what lies there.

Files that exist are compared by content, and only what differs is written; see --overwrite. What is not whole yet is called
.dengbei-restore-…; after an interruption run the command again, which goes on where it was. Nothing is written outside the target:
what would be is named, as is all else that could not be restored, and the exit status is 3.

--delete removes what lies in restored directories and is not in the snapshot; try it with --dry-run -v first.`,
		Args: cobra.ExactArgs(1),
		RunE: r.run(o.run),
	}
	f := cmd.Flags()
	f.StringVarP(&o.target, "target", "t", "", "`directory` to restore into, made if need be")
	f.StringVar(&o.overwrite, "overwrite", string(restore.OverwriteAlways), "files that exist: always, if-changed (compared unless size and time agree), if-newer or never")
	f.BoolVar(&o.options.Delete, "delete", false, "remove from restored directories what is not in the snapshot")
	f.BoolVar(&o.options.DryRun, "dry-run", false, "change nothing, tell what would be done (each entry with -v)")
	f.BoolVar(&o.options.Verify, "verify", false, "read restored files again and compare")
	f.BoolVar(&o.options.Sparse, "sparse", false, "make holes where files are zero")
	f.StringArrayVarP(&o.include, "include", "i", nil, "restore only what fits this `pattern` (may be given several times)")
	f.StringArrayVar(&o.includeFold, "iinclude", nil, "--include without regard to upper and lower case")
	f.StringArrayVar(&o.includeFile, "include-file", nil, "`file` of --include patterns, one a line")
	f.StringArrayVar(&o.includeFoldFile, "iinclude-file", nil, "`file` of --iinclude patterns")
	f.StringArrayVarP(&o.exclude, "exclude", "e", nil, "leave out what fits this `pattern` (may be given several times)")
	f.StringArrayVar(&o.excludeFold, "iexclude", nil, "--exclude without regard to upper and lower case")
	f.StringArrayVar(&o.excludeFile, "exclude-file", nil, "`file` of --exclude patterns, one a line")
	f.StringArrayVar(&o.foldOut, "iexclude-file", nil, "`file` of --iexclude patterns")
	o.sel.flags(cmd)
	return cmd
}

func (o *restoring) run(cmd *cobra.Command, args []string) (err error) {
	if o.target == "" {
		return term.Usagef("where to? Give --target DIR")
	}
	switch o.options.Overwrite = restore.Overwrite(o.overwrite); o.options.Overwrite {
	case restore.OverwriteAlways, restore.OverwriteIfChanged, restore.OverwriteIfNewer, restore.OverwriteNever:
	default:
		return term.Usagef("--overwrite %q: want always, if-changed, if-newer or never", o.overwrite)
	}
	if o.options.DryRun && o.options.Verify {
		return term.Usagef("--dry-run restores nothing that --verify could read again")
	}
	if err := o.patterns(); err != nil {
		return err
	}
	if o.options.Delete && o.target == "/" && o.options.Select == nil {
		return term.Usagef("--delete in / needs --include or --exclude")
	}
	repo, err := o.opener.open(cmd.Context(), reading, repository.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repo.close()) }()
	found, err := o.sel.one(cmd.Context(), repo.Repository, args[0])
	if err != nil {
		return err
	}
	if err := found.Directory(); err != nil {
		return fmt.Errorf("%w; a single file comes with: repo dump, or with --include", err)
	}
	if !o.JSON && !o.opener.quiet {
		o.Note("restoring %s to %s", describe(found), term.Safe(o.target))
	}
	o.options.Owner = os.Geteuid() == 0
	shown := o.show()
	result, err := restore.RestoreTree(cmd.Context(), repo.Repository, found.Tree, o.target, o.options)
	shown()
	if result == nil {
		return err
	}
	if perr := o.report(result); perr != nil {
		return errors.Join(err, perr)
	}
	if errors.Is(err, restore.ErrIncomplete) {
		return incomplete{err}
	}
	return err
}

// patterns turns the options about patterns into a selection.
func (o *restoring) patterns() error {
	sets := make([]*pattern.Set, 4)
	for i, p := range []struct {
		option       string
		lines, files []string
		parse        func([]string) (*pattern.Set, error)
	}{
		{"--include", o.include, o.includeFile, pattern.Parse},
		{"--iinclude", o.includeFold, o.includeFoldFile, pattern.ParseFold},
		{"--exclude", o.exclude, o.excludeFile, pattern.Parse},
		{"--iexclude", o.excludeFold, o.foldOut, pattern.ParseFold},
	} {
		lines := p.lines
		for _, name := range p.files {
			more, err := o.readPatterns(name)
			if err != nil {
				return fmt.Errorf("%s-file: %w", p.option, err)
			}
			lines = append(lines, more...)
		}
		var err error
		if sets[i], err = p.parse(lines); err != nil {
			return term.Usagef("%s: %v", p.option, err)
		}
	}
	in, out := !sets[0].Empty() || !sets[1].Empty(), !sets[2].Empty() || !sets[3].Empty()
	switch {
	case in && out:
		return term.Usagef("patterns of inclusion and of exclusion exclude each other")
	case in:
		o.options.Select = restore.Include(sets[0], sets[1])
	case out:
		o.options.Select = restore.Exclude(sets[2], sets[3])
	case len(o.includeFile)+len(o.includeFoldFile) > 0:
		return term.Usagef("the files of patterns are empty: nothing would be restored")
	}
	return nil
}

func (o *restoring) readPatterns(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines, err := pattern.ReadLines(f, o.Env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return lines, nil
}

// restoreStatus is stock restic's message of how far a restore is.
type restoreStatus struct {
	MessageType      string  `json:"message_type"` // "status" or "summary"
	SecondsElapsed   uint64  `json:"seconds_elapsed"`
	SecondsRemaining uint64  `json:"seconds_remaining,omitempty"`
	PercentDone      float64 `json:"percent_done,omitempty"`
	TotalFiles       int64   `json:"total_files"`
	FilesRestored    int64   `json:"files_restored"`
	FilesSkipped     int64   `json:"files_skipped"`
	FilesDeleted     int64   `json:"files_deleted"`
	FilesMissing     int64   `json:"files_missing,omitempty"`
	TotalBytes       int64   `json:"total_bytes"`
	BytesRestored    int64   `json:"bytes_restored"`
	BytesSkipped     int64   `json:"bytes_skipped"`
	LostAttributes   int64   `json:"lost_attributes,omitempty"`
	DryRun           bool    `json:"dry_run,omitempty"`
}

// restoreItem is stock restic's message of one entry.
type restoreItem struct {
	MessageType string `json:"message_type"` // "verbose_status"
	Action      string `json:"action"`
	Item        string `json:"item"`
	Size        int64  `json:"size"`
}

// restoreError is stock restic's message of an entry that is missing.
type restoreError struct {
	MessageType string `json:"message_type"` // "error"
	Error       struct {
		Message string `json:"message"`
	} `json:"error"`
	During string `json:"during"`
	Item   string `json:"item"`
}

func statusOf(p restore.Progress) restoreStatus {
	s := restoreStatus{
		MessageType: "status", SecondsElapsed: uint64(p.Elapsed / time.Second), TotalFiles: p.EntriesTotal, FilesRestored: p.Entries,
		FilesSkipped: p.SkippedEntries, FilesDeleted: p.Deleted, TotalBytes: p.BytesTotal, BytesRestored: p.Bytes, BytesSkipped: p.SkippedBytes,
	}
	if done := p.Bytes + p.SkippedBytes; p.BytesTotal > 0 && p.Phase != restore.Planning {
		s.PercentDone = float64(done) / float64(p.BytesTotal)
		if done > 0 && done < p.BytesTotal {
			s.SecondsRemaining = uint64(p.Elapsed.Seconds() * float64(p.BytesTotal-done) / float64(done))
		}
	}
	return s
}

// show sets the callbacks that tell how far the restore is; the function it returns ends that.
func (o *restoring) show() func() {
	if o.opener.verbose > 0 {
		o.options.Report = func(e restore.Outcome) {
			switch {
			case e.Err != nil: // told at the end
			case o.JSON:
				_ = o.Event(restoreItem{"verbose_status", string(e.Action), e.Path, e.Bytes}) // a closed pipe shows in the summary
			default:
				fmt.Fprintf(o.Out, "%-9s %s\n", e.Action, term.Safe(e.Path))
			}
		}
	}
	if o.JSON {
		var last time.Duration
		o.options.Progress = func(p restore.Progress) {
			if p.Elapsed-last >= time.Second {
				last = p.Elapsed
				_ = o.Event(statusOf(p))
			}
		}
		return func() {}
	}
	if o.opener.quiet {
		return func() {}
	}
	bar := o.NewProgress(string(restore.Planning), 0, true)
	o.options.Progress = func(p restore.Progress) {
		switch p.Phase {
		case restore.Planning:
			bar.Phase(fmt.Sprintf("%s, %d files found", p.Phase, p.EntriesTotal), 0, p.BytesTotal)
		case restore.Verifying:
			bar.Phase(string(p.Phase), p.Verified, p.VerifiedTotal)
		default:
			done := p.Bytes + p.SkippedBytes
			rate := uint64(float64(p.Bytes) / max(p.Elapsed.Seconds(), 0.001))
			bar.Phase(fmt.Sprintf("%s, %d of %d files, %s/s", p.Phase, p.Entries+p.SkippedEntries, p.EntriesTotal, term.ByteCount(rate)), done, p.BytesTotal)
		}
	}
	return bar.End
}

// report prints what was done and lists what is missing.
func (o *restoring) report(result *restore.Result) error {
	s := statusOf(result.Progress)
	s.MessageType, s.FilesMissing, s.LostAttributes, s.DryRun = "summary", result.Failed, result.LostAttributes, o.options.DryRun
	if o.JSON {
		for _, m := range result.Missing {
			e := restoreError{MessageType: "error", During: "restore", Item: m.Path}
			e.Error.Message = m.Err.Error()
			if err := o.Event(e); err != nil {
				return err
			}
		}
		return o.Event(s)
	}
	for _, m := range result.Missing {
		o.Note("missing: %s: %s", term.Safe(m.Path), term.Safe(m.Err.Error()))
	}
	if more := result.Failed - int64(len(result.Missing)); more > 0 {
		o.Note("missing: %d more", more)
	}
	if n := result.LostAttributes; n > 0 {
		o.Note("%d extended attributes could not be set: the file system has none, or only root may set them", n)
	}
	if o.opener.quiet {
		return nil
	}
	return o.Print(s, func(w io.Writer) {
		verb := "restored"
		if o.options.DryRun {
			verb = "would restore"
		}
		fmt.Fprintf(w, "%s %d files and directories (%s), %d needed nothing (%s)", verb, s.FilesRestored, term.ByteCount(uint64(s.BytesRestored)),
			s.FilesSkipped, term.ByteCount(uint64(s.BytesSkipped)))
		if s.FilesDeleted > 0 {
			fmt.Fprintf(w, ", deleted %d", s.FilesDeleted)
		}
		fmt.Fprintf(w, " in %s\n", result.Elapsed.Round(10*time.Millisecond))
		if o.options.Verify {
			fmt.Fprintf(w, "read again and compared: %s\n", term.ByteCount(uint64(result.Verified)))
		}
	})
}
