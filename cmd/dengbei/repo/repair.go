package repo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repair"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

func (r *commands) repairCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "mend index, packs and snapshots, or fetch files from another copy",
		Long: `Mend a damaged repository. "repo check --read-data" says what is damaged. In this order: "from" if there is another copy, then "index",
"packs" for each pack that the check names, and "snapshots" last. What is new is durable before anything old goes; damaged files are
kept in the repository's directory damaged/.`,
	}
	cmd.AddCommand(r.repairIndexCommand(), r.repairPacksCommand(), r.repairSnapshotsCommand(), r.repairFromCommand())
	return cmd
}

// withRepair opens the repository for one that changes it, alone.
func (r *commands) withRepair(do func(ctx context.Context, repo *opened, args []string) error) func(*cobra.Command, []string) error {
	return r.run(func(cmd *cobra.Command, args []string) (err error) {
		repo, err := r.opener.open(cmd.Context(), removing, repository.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, repo.close()) }()
		return do(cmd.Context(), repo, args)
	})
}

func names[T any](list []T, name func(T) chunkstore.Name) []string {
	all := []string{}
	for _, x := range list {
		all = append(all, name(x).String())
	}
	return all
}

func itself(n chunkstore.Name) chunkstore.Name           { return n }
func unreadable(u repository.Unreadable) chunkstore.Name { return u.Name }

func would(dryRun bool, text string) string {
	if dryRun {
		return "would be " + text
	}
	return text
}

func (r *commands) repairIndexCommand() *cobra.Command {
	var o repair.IndexOptions
	cmd := &cobra.Command{
		Use:   "index",
		Short: "bring the index in line with the packs",
		Long: `Write anew what is wrong in the index, from the packs' own lists. Index files that are right are kept.

--read-all-packs does not trust the index where a pack's size fits.`,
		Args: cobra.NoArgs,
		RunE: r.withRepair(func(ctx context.Context, repo *opened, _ []string) error {
			if !r.opener.quiet {
				bar := r.NewProgress("reading index and packs", 0, false)
				defer bar.End()
				o.Progress = func(done, total int) { bar.Set(int64(done), int64(total)) }
			}
			res, err := repair.Index(ctx, repo.Repository, o)
			if err != nil {
				return err
			}
			v := struct {
				MessageType string   `json:"message_type"`
				DryRun      bool     `json:"dry_run"`
				Kept        int      `json:"index_files_kept"`
				Written     int      `json:"index_files_written"`
				Removed     int      `json:"index_files_removed"`
				SetAside    []string `json:"index_files_set_aside"`
				FromHeader  []string `json:"packs_read"`
				Gone        []string `json:"packs_missing"`
				Headless    []string `json:"packs_without_header"`
			}{"summary", o.DryRun, res.Kept, res.Written, res.Removed, names(res.SetAside, unreadable), names(res.FromHeader, itself),
				names(res.Gone, itself), names(res.Headless, unreadable)}
			return r.Print(v, func(w io.Writer) {
				for _, u := range res.SetAside {
					fmt.Fprintf(w, "%s: %v: %s\n", u.Name, u.Err, would(o.DryRun, "set aside"))
				}
				for _, n := range res.Gone {
					fmt.Fprintf(w, "%s is not there: %s\n", n, would(o.DryRun, "taken out of the index"))
				}
				for _, u := range res.Headless {
					fmt.Fprintf(w, "%v: save what can be read of it with: repo repair packs %s\n", u.Err, u.Name.ID.Hex())
				}
				fmt.Fprintf(w, "%d index files kept, %d %s, %d %s; %d packs listed from their headers\n", res.Kept, res.Written,
					would(o.DryRun, "written"), res.Removed, would(o.DryRun, "removed"), len(res.FromHeader))
			})
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.ReadAllPacks, "read-all-packs", false, "read the list of blobs of every pack")
	f.BoolVarP(&o.DryRun, "dry-run", "n", false, "only say what would be done")
	return cmd
}

func (r *commands) repairPacksCommand() *cobra.Command {
	var o repair.PacksOptions
	cmd := &cobra.Command{
		Use:   "packs ID…",
		Short: "save what can be read of damaged packs into new ones",
		Long: `Store every blob of the given packs that still decrypts and fits its name in new packs, then take the damaged ones out of the index and
set them aside.`,
		Args: cobra.MinimumNArgs(1),
		RunE: r.withRepair(func(ctx context.Context, repo *opened, args []string) error {
			var ids []digest.Digest
			for _, a := range args {
				id, err := digest.Parse(a)
				if err != nil || id.Algorithm() != digest.SHA256 {
					return term.Usagef("%q: want the 64 hex digits of a pack's name", a)
				}
				ids = append(ids, id)
			}
			res, err := repair.Packs(ctx, repo.Repository, ids, o)
			if err != nil {
				return err
			}
			type lost struct {
				Type string `json:"type"`
				ID   string `json:"id"`
				Pack string `json:"pack"`
			}
			v := struct {
				MessageType string   `json:"message_type"`
				DryRun      bool     `json:"dry_run"`
				Saved       int      `json:"blobs_saved"`
				Elsewhere   int      `json:"blobs_elsewhere"`
				Lost        []lost   `json:"blobs_lost"`
				SetAside    []string `json:"packs_set_aside"`
			}{"summary", o.DryRun, res.Saved, res.Elsewhere, []lost{}, names(res.SetAside, itself)}
			for _, l := range res.Lost {
				v.Lost = append(v.Lost, lost{l.Type.String(), l.ID.String(), l.Pack.ID.Hex()})
			}
			return r.Print(v, func(w io.Writer) {
				for _, l := range res.Lost {
					fmt.Fprintf(w, "%s blob %s of %s is lost: %v\n", l.Type, l.ID, l.Pack, l.Err)
				}
				for _, n := range res.SetAside {
					fmt.Fprintf(w, "%s %s\n", n, would(o.DryRun, "set aside"))
				}
				fmt.Fprintf(w, "%d blobs %s, %d lie elsewhere as well, %d are lost\n", res.Saved, would(o.DryRun, "saved"), res.Elsewhere, len(res.Lost))
				if len(res.Lost) > 0 {
					fmt.Fprintln(w, "Back up the source again: what is lost may still be there. Then leave out the rest with: repo repair snapshots --forget")
				}
			})
		}),
	}
	cmd.Flags().BoolVarP(&o.DryRun, "dry-run", "n", false, "only say what would be done")
	return cmd
}

func (r *commands) repairSnapshotsCommand() *cobra.Command {
	var o repair.SnapshotsOptions
	var s selection
	cmd := &cobra.Command{
		Use:   "snapshots [ID…]",
		Short: "write snapshots without what is lost",
		Long: `Write a new snapshot with the tag "repaired" for each snapshot that cannot be restored whole: files without their lost parts, directories
that cannot be read as empty ones. Mend index and packs first. The old snapshots stay unless --forget removes them.`,
		RunE: r.withRepair(func(ctx context.Context, repo *opened, args []string) error {
			list, err := s.all(ctx, repo.Repository, args)
			if err != nil {
				return err
			}
			var junk []repository.Unreadable
			if o.Forget && len(args) == 0 {
				if junk, err = repair.Unreadable(ctx, repo.Repository, o.DryRun); err != nil {
					return err
				}
			}
			results, err := repair.Snapshots(ctx, repo.Repository, list, o)
			if err != nil {
				return err
			}
			type view struct {
				Snapshot string          `json:"snapshot"`
				Repaired string          `json:"repaired,omitempty"`
				Lost     bool            `json:"lost"`
				Removed  bool            `json:"removed"`
				Changes  []repair.Change `json:"changes"`
				More     int             `json:"more_changes"`
			}
			v := struct {
				MessageType string   `json:"message_type"`
				DryRun      bool     `json:"dry_run"`
				Checked     int      `json:"snapshots_checked"`
				SetAside    []string `json:"snapshots_set_aside"`
				Repaired    []view   `json:"snapshots"`
			}{"summary", o.DryRun, len(results), names(junk, unreadable), []view{}}
			for _, res := range results {
				if res.Sound() {
					continue
				}
				x := view{Snapshot: res.Snapshot.Hex(), Lost: res.Lost, Removed: res.Removed, Changes: term.OrEmpty(res.Changes), More: res.More}
				if !res.Repaired.IsZero() {
					x.Repaired = res.Repaired.Hex()
				}
				v.Repaired = append(v.Repaired, x)
			}
			return r.Print(v, func(w io.Writer) {
				for _, u := range junk {
					fmt.Fprintf(w, "%s: %v: %s\n", u.Name, u.Err, would(o.DryRun, "set aside"))
				}
				for _, x := range v.Repaired {
					switch {
					case x.Lost:
						fmt.Fprintf(w, "snapshot %s: its root directory cannot be read\n", x.Snapshot[:8])
					case x.Repaired != "":
						fmt.Fprintf(w, "snapshot %s: repaired as %s\n", x.Snapshot[:8], x.Repaired[:8])
					default:
						fmt.Fprintf(w, "snapshot %s: would be repaired\n", x.Snapshot[:8])
					}
					for _, c := range x.Changes {
						fmt.Fprintf(w, "  %s: %s\n", term.Safe(c.Path), c.What)
					}
					if x.More > 0 {
						fmt.Fprintf(w, "  and %d more\n", x.More)
					}
					if x.Removed {
						fmt.Fprintf(w, "  snapshot %s %s\n", x.Snapshot[:8], would(o.DryRun, "removed"))
					}
				}
				fmt.Fprintf(w, "%d snapshots looked at, %d were not sound\n", v.Checked, len(v.Repaired))
			})
		}),
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.Forget, "forget", false, "remove the snapshots that were replaced, and those of which nothing can be restored")
	f.BoolVarP(&o.DryRun, "dry-run", "n", false, "only say what would be done")
	return cmd
}

func (r *commands) repairFromCommand() *cobra.Command {
	var o repair.FromOptions
	cmd := &cobra.Command{
		Use:   "from OTHER",
		Short: "fetch damaged or missing files from another copy",
		Long: `Replace damaged files by those of another copy of this repository, in the directory OTHER, and fetch packs and index files that are missing.
Each file is held to its name while it is copied. A repository that does not open any more gets its config and keys back first.

--read-data finds every damaged pack; without it, only those of a wrong size. --all fetches also keys and snapshots that only the
other copy has: perhaps because they were removed here.`,
		Args: cobra.ExactArgs(1),
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			other, err := chunkstore.Open(args[0])
			if err != nil {
				return err
			}
			repo, first, err := r.openFrom(ctx, other, o.DryRun)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			if !r.opener.quiet {
				bar := r.NewProgress("looking at files", 0, false)
				defer bar.End()
				o.Progress = func(files int, _ int64) { bar.Set(int64(files), 0) }
			}
			res, err := repair.From(ctx, repo.Repository, other, o)
			if err != nil {
				return err
			}
			if first != nil {
				res.Fetched = append(first.Fetched, res.Fetched...)
			}
			return r.showFetched(res, o.DryRun)
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.ReadData, "read-data", false, "read every pack that is here")
	f.BoolVar(&o.All, "all", false, "fetch whatever only the other copy has")
	f.BoolVarP(&o.DryRun, "dry-run", "n", false, "only say what would be done")
	return cmd
}

// openFrom opens the repository, after bringing back what it needs for that. The result is what was fetched.
func (r *commands) openFrom(ctx context.Context, other *chunkstore.Files, dryRun bool) (*opened, *repair.FromResult, error) {
	repo, err := r.opener.open(ctx, removing, repository.Options{})
	if err == nil {
		return repo, nil, nil
	}
	if !errors.Is(err, repository.ErrNoRepository) && !errors.Is(err, repository.ErrPassword) && !errors.Is(err, repository.ErrUnreadable) {
		return nil, nil, err
	}
	dir, derr := r.opener.directory()
	if derr != nil {
		return nil, nil, derr
	}
	files, ferr := chunkstore.Open(dir)
	if ferr != nil {
		return nil, nil, ferr
	}
	res, ferr := repair.Entrance(ctx, files, other, dryRun)
	if ferr != nil {
		return nil, nil, errors.Join(err, ferr)
	}
	if len(res.Fetched) == 0 {
		return nil, nil, err
	}
	if dryRun {
		for _, e := range res.Fetched {
			r.opener.note("%s would be fetched first", e.Name)
		}
		return nil, nil, err
	}
	repo, err = r.opener.open(ctx, removing, repository.Options{})
	return repo, res, err
}

func (r *commands) showFetched(res *repair.FromResult, dryRun bool) error {
	var bytes int64
	for _, e := range res.Fetched {
		bytes += e.SizeBytes
	}
	v := struct {
		MessageType string   `json:"message_type"`
		DryRun      bool     `json:"dry_run"`
		Fetched     []string `json:"fetched"`
		Bytes       int64    `json:"bytes_fetched"`
		Failed      []string `json:"failed"`
	}{"summary", dryRun, names(res.Fetched, func(e chunkstore.Entry) chunkstore.Name { return e.Name }), bytes, names(res.Failed, unreadable)}
	err := r.Print(v, func(w io.Writer) {
		for _, n := range v.Fetched {
			fmt.Fprintf(w, "%s %s\n", n, would(dryRun, "fetched"))
		}
		for _, u := range res.Failed {
			fmt.Fprintf(w, "%s: %v\n", u.Name, u.Err)
		}
		fmt.Fprintf(w, "%d files %s, %s\n", len(v.Fetched), would(dryRun, "fetched"), term.ByteCount(uint64(bytes)))
	})
	if err == nil && len(res.Failed) > 0 {
		err = fmt.Errorf("%d files are damaged or missing in both copies", len(res.Failed))
	}
	return err
}
