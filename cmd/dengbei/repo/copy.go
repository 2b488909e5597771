package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/transcribe"
	"dengbei/cmd/dengbei/term"
)

// origin is the options that name a second repository, which is only read.
type origin struct {
	repo, repoFile, passwordFile, passwordCommand, keyHint string
}

// flags gives the options to cmd. restic's variables stand in for them.
func (o *origin) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.repo, "from-repo", "", "directory of the source repository (default: $RESTIC_FROM_REPOSITORY)")
	f.StringVar(&o.repoFile, "from-repository-file", "", "`file` that holds the directory of the source repository (default: $RESTIC_FROM_REPOSITORY_FILE)")
	f.StringVar(&o.passwordFile, "from-password-file", "", "`file` that holds the password of the source (default: $RESTIC_FROM_PASSWORD_FILE)")
	f.StringVar(&o.passwordCommand, "from-password-command", "", "`command` that prints the password of the source (default: $RESTIC_FROM_PASSWORD_COMMAND)")
	f.StringVar(&o.keyHint, "from-key-hint", "", "`ID` of the key of the source to try first (default: $RESTIC_FROM_KEY_HINT)")
}

// open opens the source to be read, as the repository itself is opened.
func (o *origin) open(ctx context.Context, main *opener) (*opened, error) {
	console := *main.console
	console.Env = func(name string) string {
		if rest, ok := strings.CutPrefix(name, "RESTIC_"); ok && rest != "CACHE_DIR" && rest != "COMPRESSION" {
			name = "RESTIC_FROM_" + rest
		}
		return main.console.Env(name)
	}
	source := &opener{
		console: &console, repo: o.repo, repoFile: o.repoFile, passwordFile: o.passwordFile, passwordCommand: o.passwordCommand, keyHint: o.keyHint,
		noLock: main.noLock, retryLock: main.retryLock, cacheDir: main.cacheDir, noCache: main.noCache, quiet: main.quiet,
	}
	if o.repo == "" && o.repoFile == "" && console.Env("RESTIC_REPOSITORY") == "" && console.Env("RESTIC_REPOSITORY_FILE") == "" {
		return nil, term.Usagef("which source? Give --from-repo PATH or set RESTIC_FROM_REPOSITORY")
	}
	if o.passwordFile == "" && o.passwordCommand == "" && console.Env("RESTIC_PASSWORD") == "" && console.Env("RESTIC_PASSWORD_FILE") == "" &&
		console.Env("RESTIC_PASSWORD_COMMAND") == "" {
		return nil, term.Usagef("no password of the source: give --from-password-file FILE or --from-password-command COMMAND, or set RESTIC_FROM_PASSWORD")
	}
	repo, err := source.open(ctx, reading, repository.Options{})
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return repo, nil
}

// config returns what the source's config says.
func (o *origin) config(ctx context.Context, main *opener) (_ repository.Config, err error) {
	repo, err := o.open(ctx, main)
	if err != nil {
		return repository.Config{}, err
	}
	defer func() { err = errors.Join(err, repo.close()) }()
	return repo.Config(), nil
}

// copiedView is one snapshot that was copied, or was there, as JSON.
type copiedView struct {
	Source string `json:"source"`
	ID     string `json:"id"`
}

func (r *commands) copyCommand() *cobra.Command {
	var from origin
	var pick selection
	var recompress, rechunk bool
	cmd := &cobra.Command{
		Use:   "copy [SNAPSHOT…]",
		Short: "copy snapshots from another repository",
		Args:  cobra.ArbitraryArgs,
		Long: `Copy snapshots from the repository --from-repo into this one: those that are named, or all that --host, --tag and --path pick.
Snapshots that were copied before are passed over, and content that is there already is not read. A copy that is interrupted is gone on
with by the next.

Files are not cut anew. Where the two repositories cut files differently, what both hold takes its space twice; make the target with
init --copy-chunker-params to have them cut alike.`,
		RunE: r.run(func(cmd *cobra.Command, specs []string) (err error) {
			if rechunk {
				return term.Usagef("--rechunk is not supported: restore the snapshots and back them up into this repository")
			}
			source, err := from.open(cmd.Context(), &r.opener)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, source.close()) }()
			target, err := r.opener.open(cmd.Context(), appending, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, target.close()) }()
			snapshots, err := pick.all(cmd.Context(), source.Repository, specs)
			if err != nil {
				return err
			}
			if !transcribe.Alike(source.Repository, target.Repository) {
				r.opener.note("the two repositories cut files differently: what both hold takes its space twice")
			}
			return r.copy(cmd.Context(), source.Repository, target.Repository, snapshots, transcribe.Options{Recompress: recompress})
		}),
	}
	from.flags(cmd)
	pick.flags(cmd)
	cmd.Flags().BoolVar(&recompress, "recompress", false, "compress content anew, as --compression says, rather than copy it as it is compressed")
	cmd.Flags().BoolVar(&rechunk, "rechunk", false, "cut files anew: not supported")
	return cmd
}

// copy copies snapshots and tells what was done, also of a copy that stopped with an error.
func (r *commands) copy(ctx context.Context, from, to *repository.Repository, snapshots []*repository.Snapshot, o transcribe.Options) error {
	if !r.opener.quiet {
		bar := r.NewProgress("blobs copied", 0, false) // nobody knows how many there are to be
		defer bar.End()
		o.Progress = func(p transcribe.Progress) { bar.Set(int64(p.Blobs), 0) }
	}
	result, err := transcribe.Copy(ctx, from, to, snapshots, o)
	if result == nil {
		return err
	}
	v := struct {
		MessageType string       `json:"message_type"`
		Copied      []copiedView `json:"copied"`
		Skipped     []copiedView `json:"skipped"`
		Blobs       int          `json:"blobs"`
		Bytes       int64        `json:"bytes_stored"`
	}{"summary", copiedViews(result.Copied), copiedViews(result.Skipped), result.Stats.DataBlobs + result.Stats.TreeBlobs, result.Stats.StoredBytes}
	return errors.Join(err, r.Print(v, func(w io.Writer) {
		for _, p := range result.Skipped {
			fmt.Fprintf(w, "snapshot %s was copied before, to %s\n", p.Source.ID.Hex()[:8], p.Copy.Hex()[:8])
		}
		for _, p := range result.Copied {
			fmt.Fprintf(w, "snapshot %s is copied to %s\n", p.Source.ID.Hex()[:8], p.Copy.Hex()[:8])
		}
		fmt.Fprintf(w, "%d snapshots copied, %d were there; %d blobs, %s stored\n", len(v.Copied), len(v.Skipped), v.Blobs, term.ByteCount(uint64(v.Bytes)))
	}))
}

func copiedViews(pairs []transcribe.Pair) []copiedView {
	views := []copiedView{}
	for _, p := range pairs {
		views = append(views, copiedView{p.Source.ID.Hex(), p.Copy.Hex()})
	}
	return views
}
