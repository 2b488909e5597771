package repo

import (
	"errors"

	"github.com/spf13/cobra"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// objectView is a file or blob as one line of JSON.
type objectView struct {
	ID   string `json:"id"`
	Type string `json:"type,omitempty"` // of blobs
	Size int64  `json:"size,omitempty"` // of files, in bytes
	Pack string `json:"pack,omitempty"` // of blobs
}

func (r *commands) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list snapshots|packs|index|keys|locks|blobs",
		Short: "list the files or blobs of the repository",
		Long: `List the IDs of the repository's files, or of the blobs that its index lists, one on each line; with --json an object on each
line. A blob that lies in several packs is listed for each.`,
		Args: cobra.ExactArgs(1),
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			kinds := map[string]chunkstore.Kind{
				"snapshots": chunkstore.Snapshot, "packs": chunkstore.Pack, "index": chunkstore.Index, "keys": chunkstore.Key, "locks": chunkstore.Lock,
			}
			kind, ok := kinds[args[0]]
			if !ok && args[0] != "blobs" {
				return term.Usagef("list %q: want snapshots, packs, index, keys, locks or blobs", args[0])
			}
			if kind == chunkstore.Lock {
				r.opener.noLock = true // else it would list its own
			}
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			out := r.newLines()
			if kind == 0 {
				for l := range repo.Blobs() {
					if err = cmd.Context().Err(); err != nil {
						break
					}
					id, typ := l.Blob.ID.String(), l.Blob.Type.String()
					if r.JSON {
						err = out.object(objectView{ID: id, Type: typ, Pack: l.Pack.ID.Hex()})
					} else {
						err = out.printf("%s %s\n", typ, id)
					}
					if err != nil {
						break
					}
				}
				return out.flush(err)
			}
			for e, lerr := range repo.Files().List(cmd.Context(), kind) {
				if err = lerr; err != nil {
					break
				}
				if r.JSON {
					err = out.object(objectView{ID: e.Name.ID.Hex(), Size: e.SizeBytes})
				} else {
					err = out.printf("%s\n", e.Name.ID.Hex())
				}
				if err != nil {
					break
				}
			}
			return out.flush(err)
		}),
	}
}
