package repo

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// tagging is what is to become of the tags of snapshots.
type tagging struct {
	set, add, remove []string // lists of tags
	replace          bool     // set is given, perhaps empty
}

func tagsOf(lists []string) []string {
	var tags []string
	for _, l := range lists {
		for _, tag := range browse.SplitTags(l) {
			if tag != "" && !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// apply returns the tags that a snapshot with these is to have.
func (t *tagging) apply(tags []string) []string {
	if t.replace {
		return tagsOf(t.set)
	}
	remove := tagsOf(t.remove)
	var out []string
	for _, tag := range append(slices.Clone(tags), tagsOf(t.add)...) {
		if !slices.Contains(out, tag) && !slices.Contains(remove, tag) {
			out = append(out, tag)
		}
	}
	return out
}

func (r *commands) tagCommand() *cobra.Command {
	var sel selection
	var t tagging
	cmd := &cobra.Command{
		Use:   "tag [SNAPSHOT…]",
		Short: "change the tags of snapshots",
		Long: `Change the tags of the snapshots named, or of all that --host, --tag and --path pick.

A snapshot whose tags change gets another ID; its field original keeps the first one.`,
		Args: cobra.ArbitraryArgs,
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			t.replace = cmd.Flags().Changed("set")
			switch changes := len(tagsOf(t.add)) + len(tagsOf(t.remove)); {
			case t.replace && changes > 0:
				return term.Usagef("--set excludes --add and --remove")
			case !t.replace && changes == 0:
				return term.Usagef("nothing to do: give --add, --remove or --set")
			}
			repo, err := r.opener.open(cmd.Context(), removing, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			list, err := sel.all(cmd.Context(), repo.Repository, args)
			if err != nil {
				return err
			}
			change := make(map[digest.Digest][]string)
			for _, sn := range list {
				change[sn.ID] = t.apply(sn.Tags)
			}
			done, err := repo.SetTags(cmd.Context(), change)
			for _, d := range done {
				if r.JSON {
					err = errors.Join(err, r.Event(struct {
						MessageType string `json:"message_type"`
						Old         string `json:"old_snapshot_id"`
						New         string `json:"new_snapshot_id"`
					}{"changed", d.Old.Hex(), d.New.Hex()}))
				}
			}
			if err != nil {
				return err
			}
			if r.JSON {
				return r.Event(struct {
					MessageType string `json:"message_type"`
					Changed     int    `json:"changed_snapshots"`
				}{"summary", len(done)})
			}
			return r.Print(nil, func(w io.Writer) {
				for _, d := range done {
					fmt.Fprintf(w, "%s is now %s\n", browse.Short(d.Old), browse.Short(d.New))
				}
				fmt.Fprintf(w, "changed the tags of %d snapshots\n", len(done))
			})
		}),
	}
	sel.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&t.add, "add", nil, "add `tag[,tag…]` (may be given several times)")
	f.StringArrayVar(&t.remove, "remove", nil, "remove `tag[,tag…]` (may be given several times)")
	f.StringArrayVar(&t.set, "set", nil, "replace all tags by `tag[,tag…]`; '' for none")
	return cmd
}
