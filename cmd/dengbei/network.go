package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

func (a *app) networkCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "network", Short: "found a network, invite centres, see who is there"}
	cmd.AddCommand(a.networkInitCommand(), a.networkInviteCommand(), a.networkMembersCommand(), a.networkStatusCommand())
	return cmd
}

func (a *app) networkInitCommand() *cobra.Command {
	var file string
	var opt node.FoundOptions
	cmd := &cobra.Command{
		Use:   "init --config FILE --name NAME [--origin ORIGIN]",
		Short: "found a network: its CA, its keys and its first voter, here",
		Long: `Found a network on this machine: the CA, the gossip key, the key of the log and the first voter. This is done once in the
life of a network, usually at the province. The CA's key stays in this node's data directory: keep a copy off-line.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Name == "" {
				return term.Usagef("give --name NAME")
			}
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			f, err := node.Found(c, opt)
			if err != nil {
				return fmt.Errorf("found network %s: %w", opt.Name, err)
			}
			v := struct {
				ServerID    string `json:"server_id"`
				Origin      string `json:"origin"`
				Fingerprint string `json:"ca_fingerprint"`
			}{f.ServerID, f.Origin, f.CAFingerprint}
			return a.Print(v, func(w io.Writer) {
				fmt.Fprintf(w, "network\t%s\nlog\t%s\nfirst voter\t%s\nCA fingerprint\t%s\n", opt.Name, v.Origin, v.ServerID, v.Fingerprint)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration `FILE` of the first voter (required)")
	f.StringVar(&opt.Name, "name", "", "`NAME` of the network: a-z, 0-9, dot, hyphen (required)")
	f.StringVar(&opt.Origin, "origin", "", "name of the public log in every certificate, for ever, such as archives.zj.example/log (default: NAME/registry/1)")
	f.Uint32Var(&opt.Quorum, "quorum", 0, "cosignatures a certificate needs (0 = a majority of the voters)")
	return cmd
}

func (a *app) networkInviteCommand() *cobra.Command {
	var voter, replace bool
	var valid time.Duration
	cmd := &cobra.Command{
		Use:   "invite CODE",
		Short: "make a single-use token that enrols the centre CODE",
		Long: `Make a token with which the centre of this GB/T 2260 code enrols once. With --replace the centre's present identity is revoked
by this very command: use it after a machine was lost. The token is a secret until it is used.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if valid < 0 || valid > 0 && valid < time.Second {
				return term.Usagef("--valid %v: want at least one second", valid)
			}
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				r, err := c.Network.Invite(cmd.Context(), &nodepb.InviteRequest{Code: args[0], Voter: voter, Replace: replace, ValidSeconds: int64(valid / time.Second)})
				if err != nil {
					return fmt.Errorf("invite %s: %w", args[0], err)
				}
				v := struct {
					Token   string `json:"token"`
					Expires string `json:"expires_at"`
					Revoked string `json:"revoked_server_id,omitempty"`
				}{r.GetToken(), term.Instant(r.GetExpiresAtMillis()), r.GetRevokedServerId()}
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintln(w, v.Token)
					if v.Revoked != "" {
						a.Note("revoked: %s", v.Revoked)
					}
					a.Note("valid until %s, for one enrolment of %s", v.Expires, args[0])
				})
			})
		},
	}
	a.targetFlagsOf(cmd)
	cmd.Flags().BoolVar(&voter, "voter", false, "the centre will vote")
	cmd.Flags().BoolVar(&replace, "replace", false, "revoke the centre's present identity")
	cmd.Flags().DurationVar(&valid, "valid", time.Hour, "how long the token may be used")
	return cmd
}

type memberView struct {
	Code     string `json:"code"`
	Serial   uint64 `json:"serial"`
	ServerID string `json:"server_id"`
	Voter    bool   `json:"voter"`
	Role     string `json:"raft_role"`
	Alive    bool   `json:"alive"`
	Peer     string `json:"peer_address"`
	Web      string `json:"web_address"`
	Enrolled string `json:"enrolled_at"`
	Revoked  string `json:"revoked_at,omitempty"`
	Reason   string `json:"revoked_reason,omitempty"`
}

func memberOf(s *nodepb.MemberStatus) memberView {
	m := s.GetMember()
	return memberView{
		Code: m.GetCode(), Serial: m.GetSerial(), ServerID: s.GetServerId(), Voter: m.GetVoter(), Role: s.GetRaftRole(), Alive: s.GetAlive(),
		Peer: m.GetPeerAddress(), Web: m.GetWebAddress(), Enrolled: term.Instant(m.GetEnrolledAtMillis()), Revoked: term.Instant(m.GetRevokedAtMillis()),
		Reason: m.GetRevokedReason(),
	}
}

func (a *app) networkMembersCommand() *cobra.Command {
	var all bool
	var level string
	cmd := &cobra.Command{
		Use:   "members",
		Short: "list the centres of the network",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := readLevel(level)
			if err != nil {
				return err
			}
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				r, err := c.Network.Members(cmd.Context(), &nodepb.MembersRequest{All: all, Level: l})
				if err != nil {
					return fmt.Errorf("list members: %w", err)
				}
				v := struct {
					Leader  string       `json:"leader"`
					Applied uint64       `json:"applied_index"`
					Members []memberView `json:"members"`
				}{r.GetLeader(), r.GetAppliedIndex(), []memberView{}}
				for _, m := range r.GetMembers() {
					v.Members = append(v.Members, memberOf(m))
				}
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintln(w, "MEMBER\tROLE\tALIVE\tPEER\tENROLLED\tREVOKED")
					for _, m := range v.Members {
						fmt.Fprintf(w, "%s\t%s\t%v\t%s\t%s\t%s\n", m.ServerID, m.Role, m.Alive, term.Safe(m.Peer), m.Enrolled, m.Revoked)
					}
				})
			})
		},
	}
	a.targetFlagsOf(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also revoked members")
	levelFlag(cmd, &level)
	return cmd
}

func levelFlag(cmd *cobra.Command, level *string) {
	cmd.Flags().StringVar(level, "level", "local", "how fresh the answer must be: local, leader or linearizable")
}

func readLevel(s string) (nodepb.ReadLevel, error) {
	n, ok := nodepb.ReadLevel_value[strings.ToUpper(s)]
	if !ok {
		return 0, term.Usagef("--level %q: want local, leader or linearizable", s)
	}
	return nodepb.ReadLevel(n), nil
}

type statusView struct {
	Network       string        `json:"network"`
	ServerID      string        `json:"server_id"`
	Code          string        `json:"code"`
	Leader        string        `json:"leader"`
	Quorum        bool          `json:"quorum"`
	Applied       uint64        `json:"applied_index"`
	Registrations uint64        `json:"registrations"`
	LogSize       uint64        `json:"log_size"`
	LogRoot       string        `json:"log_root"`
	Published     uint64        `json:"published_size"`
	StateChain    string        `json:"state_chain"`
	Waiting       uint64        `json:"waiting_submissions"`
	Recovering    bool          `json:"recovering"`
	Alarms        []string      `json:"alarms"`
	Holdings      []holdingView `json:"holdings"`
}

type holdingView struct {
	Repository string `json:"repository"`
	Owner      string `json:"owner"`
	Files      uint64 `json:"files"`
	Missing    uint64 `json:"missing"`
	Receipted  uint64 `json:"receipted_sequence"`
	Registered uint64 `json:"registered_sequence"`
	LastError  string `json:"last_error,omitempty"`
}

func statusOf(r *nodepb.StatusReply) statusView {
	v := statusView{
		Network: r.GetNetwork(), ServerID: r.GetServerId(), Code: r.GetCode(), Leader: r.GetLeader(), Quorum: r.GetQuorum(),
		Applied: r.GetAppliedIndex(), Registrations: r.GetRegistrations(), LogSize: r.GetLogSize(), LogRoot: hex.EncodeToString(r.GetLogRoot()),
		Published: r.GetPublishedSize(), StateChain: hex.EncodeToString(r.GetStateChain()), Waiting: r.GetWaitingSubmissions(),
		Recovering: r.GetRecovering(), Alarms: term.OrEmpty(r.GetAlarms()), Holdings: []holdingView{},
	}
	for _, h := range r.GetHoldings() {
		v.Holdings = append(v.Holdings, holdingView{h.GetRepository(), h.GetOwner(), h.GetFiles(), h.GetMissing(), h.GetReceiptedSequence(), h.GetRegisteredSequence(), h.GetLastError()})
	}
	return v
}

func (a *app) networkStatusCommand() *cobra.Command {
	return a.targeted(&cobra.Command{
		Use:   "status",
		Short: "show how this node and what it holds are",
		Long: `Show this node's state. The exit status is 1 if the node has no quorum, is recovering, lacks files of a copy it must hold, or raises an
alarm.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				r, err := c.Network.Status(cmd.Context(), &nodepb.StatusRequest{})
				if err != nil {
					return fmt.Errorf("node status: %w", err)
				}
				v := statusOf(r)
				if err := a.Print(v, v.text); err != nil {
					return err
				}
				return v.wrong()
			})
		},
	})
}

func (v statusView) text(w io.Writer) {
	leader := v.Leader
	if leader == "" {
		leader = "none known"
	}
	fmt.Fprintf(w, "node\t%s of network %s\nleader\t%s\nquorum\t%v\n", v.ServerID, v.Network, leader, v.Quorum)
	fmt.Fprintf(w, "registrations\t%d, published %d\nlog root\t%s\nwaiting submissions\t%d\n", v.Registrations, v.Published, v.LogRoot, v.Waiting)
	for _, h := range v.Holdings {
		fmt.Fprintf(w, "holds\t%s for %s: %d files, %d missing, receipt %d of %d %s\n", h.Repository, h.Owner, h.Files, h.Missing, h.Receipted, h.Registered, term.Safe(h.LastError))
	}
	for _, alarm := range v.Alarms {
		fmt.Fprintf(w, "ALARM\t%s\n", term.Safe(alarm))
	}
}

// wrong names what a person should look at, nil if nothing.
func (v statusView) wrong() error {
	var missing uint64
	for _, h := range v.Holdings {
		missing += h.Missing
	}
	switch {
	case !v.Quorum:
		return term.Falsef("node %s reaches no quorum: submissions are received, nothing is registered", v.ServerID)
	case v.Recovering:
		return term.Falsef("node %s is recovering", v.ServerID)
	case missing > 0:
		return term.Falsef("node %s lacks %d files of copies it must hold", v.ServerID, missing)
	case len(v.Alarms) > 0:
		return term.Falsef("node %s raises %d alarms", v.ServerID, len(v.Alarms))
	}
	return nil
}

// targeted adds the flags that name a node.
func (a *app) targeted(cmd *cobra.Command) *cobra.Command {
	a.targetFlagsOf(cmd)
	return cmd
}
