package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/config"
	"dengbei/node/rpc"
)

// targetFlags say which node a command talks to and as whom.
type targetFlags struct {
	config     string // the node's own configuration: its address, and the officers' credentials in its data directory
	node       string // host:port, with credential
	credential string // directory
	as         string // operator or registrar; with config
}

// credentials is the directory of a node's credentials inside its data directory.
const credentials = "credentials"

func (a *app) targetFlagsOf(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.target.config, "config", "", "configuration `FILE` of the node on this machine")
	f.StringVar(&a.target.node, "node", "", "peer port of a node, `HOST:PORT`")
	f.StringVar(&a.target.credential, "credential", "", "`DIR` with the credential to use with --node")
	f.StringVar(&a.target.as, "as", "", "with --config: `ROLE` to act in, operator or registrar (default: what the command needs)")
}

// A role names one of the officers' credentials on a node.
type role string

const (
	asOperator  role = "operator"
	asRegistrar role = "registrar"
)

// resolve turns flags and environment into a target. def is the role a command needs on the node's own machine.
func (t targetFlags) resolve(env func(string) string, def role) (rpc.Target, error) {
	if t.config == "" && t.node == "" { // a flag of either kind beats the environment
		t.config, t.node = env("DENGBEI_CONFIG"), env("DENGBEI_NODE")
		if t.node != "" && t.credential != "" {
			t.config = ""
		}
	}
	if t.credential == "" {
		t.credential = env("DENGBEI_CREDENTIAL")
	}
	switch t.as {
	case "":
	case string(asOperator), string(asRegistrar):
		def = role(t.as)
	default:
		return rpc.Target{}, term.Usagef("--as %q: want operator or registrar", t.as)
	}
	switch {
	case t.config != "" && t.node != "":
		return rpc.Target{}, term.Usagef("give --config or --node (DENGBEI_CONFIG, DENGBEI_NODE), not both")
	case t.config != "":
		c, err := config.Load(t.config)
		if err != nil {
			return rpc.Target{}, err
		}
		return targetOf(c, def), nil
	case t.node != "" && t.credential == "":
		return rpc.Target{}, term.Usagef("--node needs --credential DIR (DENGBEI_CREDENTIAL)")
	case t.node != "":
		if _, _, err := net.SplitHostPort(t.node); err != nil {
			return rpc.Target{}, term.Usagef("--node %q: want HOST:PORT", t.node)
		}
		return rpc.Target{Address: t.node, CredentialDir: t.credential, Name: credentialName(t.credential, t.as)}, nil
	default:
		return rpc.Target{}, term.Usagef("which node? give --config FILE, or --node HOST:PORT and --credential DIR")
	}
}

// credentialName is how the credential in dir is called: a client's, or an officer's in a node's own directory.
func credentialName(dir, as string) string {
	if as != "" {
		return as
	}
	for _, name := range []string{clientName, string(asOperator)} {
		if exists(filepath.Join(dir, name+".crt")) {
			return name
		}
	}
	return clientName
}

// targetOf is the node that c configures, on the loopback address if it listens everywhere.
func targetOf(c config.Config, as role) rpc.Target {
	address := c.Peer.Listen
	if host, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort("127.0.0.1", port)
		}
	}
	return rpc.Target{Address: address, CredentialDir: c.Path(credentials), Name: string(as)}
}

// dial opens a client to the node that the flags name.
func (a *app) dial(ctx context.Context, def role) (*rpc.Client, error) {
	t, err := a.target.resolve(a.Env, def)
	if err != nil {
		return nil, err
	}
	c, err := rpc.Dial(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", t.Address, err)
	}
	return c, nil
}

// withNode runs do with a client of the node that the flags name.
func (a *app) withNode(ctx context.Context, def role, do func(*rpc.Client) error) error {
	c, err := a.dial(ctx, def)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}
