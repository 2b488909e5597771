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
	cmd := &cobra.Command{
		Use:   "init",
		Short: "make a new repository",
		Long: `Make a new repository in the directory --repo, opened by the password.

--chunks database cuts files into pieces small enough that a large file with small edits all over adds little. It is fixed for
the life of the repository. Stock restic reads such a repository as any other, but cuts what it adds its own way.`,
		RunE: r.run(func(cmd *cobra.Command, _ []string) error {
			profile, ok := chunkProfiles()[chunks]
			if !ok {
				return term.Usagef("--chunks %q: want standard or database", chunks)
			}
			dir, err := r.opener.directory()
			if err != nil {
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
			repo, err := repository.Init(cmd.Context(), files, password, repository.Options{Chunks: profile})
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
	return cmd
}
