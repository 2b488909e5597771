package repo

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/repository"
)

// selection is the options by which commands pick snapshots: --host, --tag and --path.
type selection struct {
	filter browse.Filter
	cmd    *cobra.Command
}

// flags gives the options to cmd.
func (s *selection) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&s.filter.Hosts, "host", "H", nil, "only snapshots of this `host` (may be given several times)")
	s.tagAndPath(cmd)
}

// flagsLong gives the options to a command whose -H means something else.
func (s *selection) flagsLong(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&s.filter.Hosts, "host", nil, "only snapshots of this `host` (may be given several times)")
	s.tagAndPath(cmd)
}

func (s *selection) tagAndPath(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.filter.Tags, "tag", nil, "only snapshots with all of `tag[,tag…]` (several times: with one list or another; '' for none)")
	f.StringArrayVar(&s.filter.Paths, "path", nil, "only snapshots of this absolute `path` (several times: of all of them)")
	s.cmd = cmd
}

// one returns what spec names: "latest", which heeds the options, or an ID or the beginning of one; with :FOLDER behind
// it, that part.
func (s *selection) one(ctx context.Context, repo *repository.Repository, spec string) (*browse.Found, error) {
	f, err := browse.Find(ctx, repo, spec, s.filter)
	if err != nil {
		return nil, err
	}
	s.note(f.PassedOver)
	return f, nil
}

// all returns the snapshots that specs name, or without specs all that the options pick, the oldest first.
func (s *selection) all(ctx context.Context, repo *repository.Repository, specs []string) ([]*repository.Snapshot, error) {
	list, passed, err := browse.Select(ctx, repo, specs, s.filter)
	if err != nil {
		return nil, err
	}
	s.note(passed)
	return list, nil
}

// note tells of files that were passed over.
func (s *selection) note(passed []repository.Unreadable) {
	w := s.cmd.ErrOrStderr()
	for _, u := range passed {
		fmt.Fprintf(w, "passed over %s: %v\n", u.Name, u.Err)
	}
}
