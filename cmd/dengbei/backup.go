package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

func (a *app) backupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "backup", Short: "this centre's repositories and what it holds for others"}
	cmd.AddCommand(a.backupListCommand(), a.backupCheckCommand())
	return cmd
}

type repositoryView struct {
	ID           string   `json:"id"`
	Path         string   `json:"path"`
	PasswordFile string   `json:"password_file,omitempty"`
	Class        string   `json:"class"`
	Owner        string   `json:"owner"`
	Held         bool     `json:"held"`
	Files        uint64   `json:"files"`
	Bytes        uint64   `json:"bytes"`
	Sequence     uint64   `json:"sequence"`
	Snapshots    []string `json:"snapshots"`
}

func repositoryOf(r *nodepb.Repository) repositoryView {
	return repositoryView{r.GetId(), r.GetPath(), r.GetPasswordFile(), r.GetClass(), r.GetOwner(), r.GetHeld(), r.GetFiles(), r.GetSizeBytes(), r.GetSequence(), term.OrEmpty(r.GetSnapshots())}
}

func (a *app) backupListCommand() *cobra.Command {
	return a.targeted(&cobra.Command{
		Use:   "list",
		Short: "list repositories on this node's disk",
		Long: `List the repositories on this node's disk: its own, and the copies it holds for others. Its own can be read with stock restic and
the password file; a held one only with the owner's password.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				r, err := c.Backups.List(cmd.Context(), &nodepb.ListBackupsRequest{})
				if err != nil {
					return fmt.Errorf("list backups: %w", err)
				}
				v := struct {
					Repositories []repositoryView `json:"repositories"`
				}{[]repositoryView{}}
				for _, x := range r.GetRepositories() {
					v.Repositories = append(v.Repositories, repositoryOf(x))
				}
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintln(w, "REPOSITORY\tOWNER\tHELD\tFILES\tSIZE\tSEQUENCE\tSNAPSHOTS\tPATH")
					for _, x := range v.Repositories {
						fmt.Fprintf(w, "%s\t%s\t%v\t%d\t%s\t%d\t%d\t%s\n", x.ID, x.Owner, x.Held, x.Files, term.ByteCount(x.Bytes), x.Sequence, len(x.Snapshots), term.Safe(x.Path))
					}
				})
			})
		},
	})
}

type finding struct {
	Repository string `json:"repository"`
	Finding    string `json:"finding"`
}

func (a *app) backupCheckCommand() *cobra.Command {
	var readData bool
	cmd := a.targeted(&cobra.Command{
		Use:   "check",
		Short: "check every repository on this node's disk",
		Long: `Check this node's own and held repositories against their registered manifests, reading every byte unless --read-data=false. The
exit status is 1 if anything is damaged or missing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				found, err := a.checkBackups(cmd, c, readData)
				if err != nil {
					return err
				}
				v := struct {
					OK       bool      `json:"ok"`
					ReadData bool      `json:"read_data"`
					Findings []finding `json:"findings"`
				}{len(found) == 0, readData, term.OrEmpty(found)}
				err = a.Print(v, func(w io.Writer) {
					for _, f := range found {
						fmt.Fprintf(w, "%s\t%s\n", f.Repository, term.Safe(f.Finding))
					}
					if len(found) == 0 {
						fmt.Fprintln(w, "nothing is damaged or missing")
					}
				})
				if err == nil && len(found) > 0 {
					err = term.Falsef("%d findings", len(found))
				}
				return err
			})
		},
	})
	cmd.Flags().BoolVar(&readData, "read-data", true, "read and hash every byte")
	return cmd
}

func (a *app) checkBackups(cmd *cobra.Command, c *rpc.Client, readData bool) ([]finding, error) {
	stream, err := c.Backups.Check(cmd.Context(), &nodepb.CheckRequest{ReadData: readData})
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	p := a.NewProgress("checking", 0, true)
	defer p.End()
	var found []finding
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("check: %w", err)
		}
		if r.GetFinding() != "" {
			found = append(found, finding{r.GetRepository(), r.GetFinding()})
			continue
		}
		p.Set(int64(r.GetDone()), int64(r.GetTotal()))
	}
}
