package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node"
	"dengbei/node/config"
)

func (a *app) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "run and enrol this machine's node"}
	cmd.AddCommand(a.nodeRunCommand(), a.nodeEnrolCommand())
	return cmd
}

func (a *app) nodeRunCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run --config FILE",
		Short: "run the node until it is told to stop",
		Long: `Run the node of an archive centre until SIGINT or SIGTERM. A node that leads hands leadership over before it ends.
A node that reaches no quorum starts all the same, receives submissions, and goes on by itself when the others are back.
The log is JSON lines on standard error. With --json, one line with the addresses goes to standard output once the node serves.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			return a.runNode(cmd.Context(), c)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE` (required)")
	return cmd
}

// serving is what a node says once it serves.
type serving struct {
	Centre string `json:"centre"`
	Peer   string `json:"peer_address"`
	Gossip string `json:"gossip_address"`
	Web    string `json:"web_address"`
}

func (a *app) runNode(ctx context.Context, c config.Config) error {
	log := slog.New(slog.NewJSONHandler(a.Err, &slog.HandlerOptions{Level: logLevel(c.LogLevel)}))
	var printed error
	err := node.Run(ctx, c, log, func(addr node.Addresses) {
		s := serving{Centre: c.Centre, Peer: addr.Peer, Gossip: addr.Gossip, Web: addr.Web}
		if a.JSON {
			printed = a.Print(s, nil)
			return
		}
		log.Info("node serves", "centre", s.Centre, "peer", s.Peer, "gossip", s.Gossip, "web", s.Web)
	})
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // told to stop, and stopped
	}
	return errors.Join(err, printed)
}

func logLevel(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// loadConfig reads a node's configuration; without --config that is wrong usage.
func loadConfig(file string) (config.Config, error) {
	if file == "" {
		file = os.Getenv("DENGBEI_CONFIG")
	}
	if file == "" {
		return config.Config{}, term.Usagef("which node? give --config FILE")
	}
	return config.Load(file)
}

func (a *app) nodeEnrolCommand() *cobra.Command {
	var file, token string
	cmd := &cobra.Command{
		Use:   "enrol --config FILE --token TOKEN",
		Short: "make this machine the node of an invited centre",
		Long: `Use up an invitation: make keys, have them certified by the network's CA, and write credentials and members into the
data directory. The token is what "network invite" printed; "-" reads it from standard input, which keeps it out of the
list of processes. A second try after a crash goes on where the first stopped; a token that was used is refused.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if token == "" {
				return term.Usagef("give --token TOKEN, or --token - to read it from standard input")
			}
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			if token == "-" {
				b, err := io.ReadAll(io.LimitReader(a.In, 64<<10))
				if err != nil {
					return fmt.Errorf("read token: %w", err)
				}
				token = strings.TrimSpace(string(b))
			}
			e, err := node.Enrol(cmd.Context(), c, token)
			if err != nil {
				return fmt.Errorf("enrol %s: %w", c.Centre, err)
			}
			v := struct {
				ServerID string `json:"server_id"`
				Members  int    `json:"members"`
			}{e.ServerID, e.Members}
			return a.Print(v, func(w io.Writer) {
				fmt.Fprintf(w, "enrolled as %s in a network of %d members; start it with: dengbei node run --config %s\n", v.ServerID, v.Members, file)
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE` (required)")
	cmd.Flags().StringVar(&token, "token", "", "enrolment `TOKEN`, or - for standard input (required)")
	return cmd
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}
