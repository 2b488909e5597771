package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// backing is the options of backup.
type backing struct {
	targets  targets
	excludes excludes

	host, at, parent                               string
	tags                                           []string
	force, ignoreInode, ignoreCtime, atime, dryRun bool
	noScan                                         bool
	readers                                        uint
	checkpoint                                     time.Duration
}

func (r *commands) backupCommand() *cobra.Command {
	var b backing
	cmd := &cobra.Command{
		Use:   "backup [flags] [FILE|DIR]...",
		Short: "store files and directories as a new snapshot",
		Long: `Store files and directories as a new snapshot. What is in the repository already is not stored again, and files that have not
changed since the last snapshot of the same host and paths are not read again, by size, times and inode.

Files that cannot be read, or that change meanwhile, are named, the rest is stored, and the exit status is 3. Sockets are left out.

A backup that is cut off loses nothing it has stored. It leaves a snapshot with the tag "` + repository.PartialTag + `" of what was done, which the
next backup of the same host and paths goes on from and removes once it is complete.`,
		Args: cobra.ArbitraryArgs,
		RunE: r.run(func(cmd *cobra.Command, args []string) error { return r.backup(cmd.Context(), &b, args) }),
	}
	b.targets.flags(cmd)
	b.excludes.flags(cmd)
	f := cmd.Flags()
	f.StringVarP(&b.host, "host", "H", "", "record this `host` (default: $RESTIC_HOST, or this machine's name)")
	f.StringArrayVar(&b.tags, "tag", nil, "give the snapshot `tag[,tag…]` (may be given several times)")
	f.StringVar(&b.at, "time", "", "record this `time`, as \"2006-01-02 15:04:05\" (default: now)")
	f.StringVar(&b.parent, "parent", "", "go on from this `snapshot` (default: the newest of the same host and paths)")
	f.BoolVarP(&b.force, "force", "f", false, "read all files, whatever snapshots there are")
	f.BoolVar(&b.ignoreInode, "ignore-inode", false, "files count as unchanged though inode or ctime differ")
	f.BoolVar(&b.ignoreCtime, "ignore-ctime", false, "files count as unchanged though ctime differs")
	f.BoolVar(&b.atime, "with-atime", false, "record when files were read last")
	f.BoolVarP(&b.dryRun, "dry-run", "n", false, "store nothing, show what would be")
	f.BoolVar(&b.noScan, "no-scan", false, "do not count beforehand how much there is")
	f.UintVar(&b.readers, "read-concurrency", 0, "read `n` files at once (default: $RESTIC_READ_CONCURRENCY, or one more than processors)")
	f.DurationVar(&b.checkpoint, "checkpoint", 5*time.Minute, "leave a partial snapshot this often, at most 10m")
	return cmd
}

// options makes of the command line what the backup is to do, all but the parent.
func (b *backing) options(c *term.Console, args []string) (archive.Options, error) {
	o := archive.Options{
		Tags: tagList(b.tags), IgnoreInode: b.ignoreInode, IgnoreCtime: b.ignoreCtime || b.ignoreInode, WithAtime: b.atime,
		DryRun: b.dryRun, Readers: int(b.readers), Checkpoint: b.checkpoint, Host: b.host,
	}
	if b.force && b.parent != "" {
		return o, term.Usagef("--force and --parent exclude each other")
	}
	if b.checkpoint <= 0 || b.checkpoint > 10*time.Minute {
		return o, term.Usagef("--checkpoint %s: want more than 0 and at most 10m", b.checkpoint)
	}
	for _, tag := range o.Tags {
		if tag == repository.PartialTag {
			return o, term.Usagef("the tag %q marks backups that were cut off; take another", tag)
		}
	}
	if s := c.Env("RESTIC_READ_CONCURRENCY"); s != "" && b.readers == 0 {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return o, term.Usagef("RESTIC_READ_CONCURRENCY %q: want a number", s)
		}
		o.Readers = int(n)
	}
	if o.Readers > 64 {
		return o, term.Usagef("--read-concurrency %d: want at most 64", o.Readers)
	}
	if o.Host == "" {
		o.Host = c.Env("RESTIC_HOST")
	}
	if o.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return o, fmt.Errorf("name of this machine: %w; give --host", err)
		}
		o.Host = host
	}
	var err error
	if o.Time, err = parseInstant("--time", b.at); err != nil {
		return o, err
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	if o.Select, o.Excludes, err = b.excludes.selection(c.Env); err != nil {
		return o, err
	}
	o.Roots, o.Paths, err = b.targets.roots(c.In, args)
	return o, err
}

// tagList splits the values of --tag.
func tagList(values []string) []string {
	var tags []string
	for _, v := range values {
		for tag := range strings.SplitSeq(v, ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

func (r *commands) backup(ctx context.Context, b *backing, args []string) (err error) {
	o, err := b.options(r.Console, args)
	if err != nil {
		return err
	}
	there, missing := archive.Readable(o.Roots)
	if len(there) == 0 && len(missing) > 0 {
		return fmt.Errorf("none of the files and directories is there: %s", term.Safe(missing[0].Source))
	}
	defer tune()()
	repo, err := r.opener.open(ctx, appending, repository.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repo.close()) }()
	watch := r.newWatch()
	for _, m := range missing {
		watch.problem(m.Source, os.ErrNotExist)
		o.Paths = without(o.Paths, m.Source)
	}
	o.Roots = there
	if err := r.parents(ctx, repo.Repository, b, &o); err != nil {
		return err
	}
	o.Report, o.Progress = watch.problem, watch.progress
	stop := watch.start(ctx, o, b.noScan)
	started := time.Now()
	result, err := archive.Backup(ctx, repo.Repository, o)
	stop()
	if err != nil {
		if result != nil && !result.SnapshotID.IsZero() {
			r.opener.note("what was done is kept as the partial snapshot %s; the next backup goes on from it", result.SnapshotID.Hex()[:8])
		}
		return err
	}
	for _, u := range result.Unremoved {
		r.opener.note("the partial snapshot %s is superseded and could not be removed: %v", u.Name, u.Err)
	}
	if err := r.printBackup(result, o.DryRun, time.Since(started)); err != nil {
		return err
	}
	if n := watch.problems.Load(); n > 0 {
		return incomplete{fmt.Errorf("%d files or directories could not be read as they are; the snapshot lacks them or holds a state they never had", n)}
	}
	return nil
}

// tune trades memory that lies idle for fewer collections; the limit holds them back where chunks are large.
func tune() (restore func()) {
	percent, limit := debug.SetGCPercent(400), debug.SetMemoryLimit(110<<20)
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

func without(paths []string, path string) []string {
	var rest []string
	for _, p := range paths {
		if p != path {
			rest = append(rest, p)
		}
	}
	return rest
}

// parents finds the snapshots that the backup goes on from.
func (r *commands) parents(ctx context.Context, repo *repository.Repository, b *backing, o *archive.Options) error {
	var unreadable []repository.Unreadable
	var newest digest.Digest
	var err error
	if newest, o.Partial, unreadable, err = archive.FindParents(ctx, repo, o.Host, o.Paths, o.Time); err != nil {
		return err
	}
	switch {
	case b.force:
		o.Reread = true
	case b.parent != "":
		found, err := browse.Find(ctx, repo, b.parent, browse.Filter{})
		if err != nil {
			return fmt.Errorf("--parent: %w", err)
		}
		o.Parent = found.Snapshot.ID
	default:
		o.Parent = newest
		for _, u := range unreadable {
			r.opener.note("passed over %s: %v", u.Name, u.Err)
		}
	}
	return nil
}

// backupSummary is the last event of a backup, as stock restic has it.
type backupSummary struct {
	MessageType         string  `json:"message_type"`
	FilesNew            int     `json:"files_new"`
	FilesChanged        int     `json:"files_changed"`
	FilesUnmodified     int     `json:"files_unmodified"`
	DirsNew             int     `json:"dirs_new"`
	DirsChanged         int     `json:"dirs_changed"`
	DirsUnmodified      int     `json:"dirs_unmodified"`
	DataBlobs           int     `json:"data_blobs"`
	TreeBlobs           int     `json:"tree_blobs"`
	DataAdded           int64   `json:"data_added"`
	DataAddedPacked     int64   `json:"data_added_packed"`
	TotalFilesProcessed int     `json:"total_files_processed"`
	TotalBytesProcessed int64   `json:"total_bytes_processed"`
	TotalDuration       float64 `json:"total_duration"` // seconds
	SnapshotID          string  `json:"snapshot_id,omitempty"`
	DryRun              bool    `json:"dry_run,omitempty"`
}

func (r *commands) printBackup(res *archive.Result, dryRun bool, took time.Duration) error {
	f, d, s := res.FileChanges, res.DirChanges, res.Stats
	if r.JSON {
		v := backupSummary{
			MessageType: "summary", FilesNew: f.New, FilesChanged: f.Changed, FilesUnmodified: f.Unmodified, DirsNew: d.New,
			DirsChanged: d.Changed, DirsUnmodified: d.Unmodified, DataBlobs: s.DataBlobs, TreeBlobs: s.TreeBlobs,
			DataAdded: s.PlainBytes, DataAddedPacked: s.StoredBytes, TotalFilesProcessed: res.Files,
			TotalBytesProcessed: res.Bytes, TotalDuration: took.Seconds(), DryRun: dryRun,
		}
		if !dryRun {
			v.SnapshotID = res.SnapshotID.Hex()
		}
		return r.Event(v)
	}
	return r.Print(nil, func(w io.Writer) {
		fmt.Fprintf(w, "Files:\t%5d new, %5d changed, %5d unmodified\n", f.New, f.Changed, f.Unmodified)
		fmt.Fprintf(w, "Dirs:\t%5d new, %5d changed, %5d unmodified\n", d.New, d.Changed, d.Unmodified)
		if r.opener.verbose > 0 {
			fmt.Fprintf(w, "Blobs:\t%5d new of data, %5d new of trees\n", s.DataBlobs, s.TreeBlobs)
		}
		added := "Added to the repository:"
		if dryRun {
			added = "Would be added to the repository:"
		}
		fmt.Fprintf(w, "%s %s (%s stored)\n\n", added, term.ByteCount(uint64(s.PlainBytes)), term.ByteCount(uint64(s.StoredBytes)))
		if res.Sockets > 0 {
			fmt.Fprintf(w, "%d sockets left out\n", res.Sockets)
		}
		fmt.Fprintf(w, "processed %d files, %s in %s\n", res.Files, term.ByteCount(uint64(res.Bytes)), minutes(took))
		if !dryRun {
			fmt.Fprintf(w, "snapshot %s saved\n", res.SnapshotID.Hex()[:8])
		}
	})
}

// minutes shows a duration as 3:04 or 1:03:04.
func minutes(d time.Duration) string {
	s := int(d.Round(time.Second) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// errorEvent is one line of JSON on the error stream, as stock restic has it.
func errorEvent(w io.Writer, during, item string, err error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(map[string]any{ // the exit status tells it as well
		"message_type": "error", "during": during, "item": item, "error": map[string]string{"message": err.Error()},
	})
}
