package repo

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// statsView is what stock restic's stats --json has, and of later versions the two about compression.
type statsView struct {
	TotalSize             uint64  `json:"total_size"`
	TotalUncompressedSize uint64  `json:"total_uncompressed_size,omitempty"`
	CompressionRatio      float64 `json:"compression_ratio,omitempty"`
	TotalFileCount        uint64  `json:"total_file_count"`
	TotalBlobCount        uint64  `json:"total_blob_count,omitempty"`
	SnapshotsCount        int     `json:"snapshots_count"`
}

func (r *commands) statsCommand() *cobra.Command {
	var sel selection
	var mode string
	cmd := &cobra.Command{
		Use:   "stats [SNAPSHOT…]",
		Short: "count what snapshots hold",
		Long: `Count what the snapshots hold, all of them if none is named. --mode says what is counted:

  restore-size       every file of every snapshot, as a restore would write it (the default)
  files-by-contents  each content once, however many files have it
  blobs-per-file     each content once, its pieces once for each path
  raw-data           the pieces that the snapshots need, as stored`,
		Args: cobra.ArbitraryArgs,
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			if !slices.Contains(browse.Modes(), browse.Mode(mode)) {
				return term.Usagef("--mode %q: want one of %v", mode, browse.Modes())
			}
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			list, err := sel.all(cmd.Context(), repo.Repository, args)
			if err != nil {
				return err
			}
			lost := damages{console: r.Console}
			s, err := browse.Measure(cmd.Context(), repo.Repository, list, browse.Mode(mode), func(_ *repository.Snapshot, at string, err error) error {
				return lost.note(at, err)
			})
			if err != nil {
				return err
			}
			v := statsView{TotalSize: s.Bytes, TotalUncompressedSize: s.PlainBytes, TotalFileCount: s.Files, TotalBlobCount: s.Blobs, SnapshotsCount: s.Snapshots}
			if s.Bytes > 0 && s.PlainBytes > 0 {
				v.CompressionRatio = float64(s.PlainBytes) / float64(s.Bytes)
			}
			return errors.Join(r.Print(v, func(w io.Writer) { statsTable(w, browse.Mode(mode), v) }), lost.err())
		}),
	}
	sel.flags(cmd)
	cmd.Flags().StringVar(&mode, "mode", string(browse.RestoreSize), "restore-size, files-by-contents, blobs-per-file or raw-data")
	return cmd
}

func statsTable(w io.Writer, mode browse.Mode, v statsView) {
	fmt.Fprintf(w, "counted\t%s\n", mode)
	fmt.Fprintf(w, "snapshots\t%d\n", v.SnapshotsCount)
	if mode != browse.RawData {
		fmt.Fprintf(w, "files\t%d\n", v.TotalFileCount)
	}
	if mode == browse.RawData || mode == browse.BlobsPerFile {
		fmt.Fprintf(w, "blobs\t%d\n", v.TotalBlobCount)
	}
	fmt.Fprintf(w, "size\t%s\n", term.ByteCount(v.TotalSize))
	if mode == browse.RawData {
		fmt.Fprintf(w, "before compression\t%s (%.2f times)\n", term.ByteCount(v.TotalUncompressedSize), v.CompressionRatio)
	}
}
