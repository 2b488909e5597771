package repo

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// chunkProfiles are the values of --chunks.
func chunkProfiles() map[string]repository.ChunkProfile {
	return map[string]repository.ChunkProfile{"standard": repository.StandardChunks(), "database": repository.DatabaseChunks()}
}

func (r *commands) initCommand() *cobra.Command {
	var chunks string
	var from origin
	var copyChunks bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "make a new repository",
		Long: `Make a new repository in the directory --repo, opened by the password.

--chunks database cuts files into pieces small enough that a large file with small edits all over adds little. It is fixed for
the life of the repository. Stock restic reads such a repository as any other, but cuts what it adds its own way.

--copy-chunker-params takes the way of cutting from the repository --from-repo, so that what is copied between the two is stored once.`,
		RunE: r.run(func(cmd *cobra.Command, _ []string) error {
			profile, ok := chunkProfiles()[chunks]
			if !ok {
				return term.Usagef("--chunks %q: want standard or database", chunks)
			}
			options := repository.Options{Chunks: profile}
			if copyChunks {
				if cmd.Flags().Changed("chunks") {
					return term.Usagef("--chunks and --copy-chunker-params exclude each other")
				}
				config, err := from.config(cmd.Context(), &r.opener)
				if err != nil {
					return err
				}
				options.Polynomial, options.Chunks = config.Polynomial, config.Chunks
			} else if from != (origin{}) {
				return term.Usagef("--from-repo and its like are for --copy-chunker-params")
			}
			dir, err := r.opener.directory()
			if err != nil {
				return err
			}
			if err := mayChange(dir); err != nil { // a copy on its way has no config yet
				return err
			}
			password, err := r.opener.password(cmd.Context())
			if err != nil {
				return err
			}
			files, err := chunkstore.Create(dir)
			if err != nil {
				return err
			}
			repo, err := repository.Init(cmd.Context(), files, password, options)
			if err != nil {
				return err
			}
			v := struct {
				MessageType string `json:"message_type"`
				ID          string `json:"id"`
				Repository  string `json:"repository"`
			}{"initialized", repo.Config().ID.String(), dir}
			return r.Print(v, func(w io.Writer) {
				fmt.Fprintf(w, "repository %s is made in %s\n", v.ID[:10], term.Safe(dir))
				fmt.Fprintln(w, "Without its password it cannot be read: keep the password in a second place.")
			})
		}),
	}
	cmd.Flags().StringVar(&chunks, "chunks", "standard", "standard, or database for dumps")
	cmd.Flags().BoolVar(&copyChunks, "copy-chunker-params", false, "cut files as the repository --from-repo does")
	from.flags(cmd)
	return cmd
}
