package node

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"dengbei/node/config"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// FoundOptions describe a new network.
type FoundOptions struct {
	Name   string // 1 to 63 of a-z 0-9 . -
	Origin string // name of the transparency log, ASCII without blanks and +; empty: "<name>/registry/1"
	// Quorum is how many voters must countersign a checkpoint; 0 = a majority of the voters at that time. It is part of
	// every policy file, so a network that will have more voters soon should say it at once.
	Quorum uint32
}

// Founded is what a founder needs to know.
type Founded struct {
	ServerID      string
	Origin        string
	CAFingerprint string // SHA-256, hex
}

const founderSerial = 1

// Found makes the data directory of the first voter of a new network: CA, log key, credentials. The network exists once
// the node was started. A directory that belongs to a network gives [ErrEnrolled].
func Found(cfg config.Config, o FoundOptions) (*Founded, error) {
	if o.Origin == "" {
		o.Origin = o.Name + "/registry/1"
	}
	if err := freshDataDir(cfg); err != nil {
		return nil, err
	}
	ca, err := identity.LoadCA(cfg.Path("ca"))
	if errors.Is(err, fs.ErrNotExist) {
		if ca, err = identity.CreateCA(o.Name); err == nil {
			err = ca.Save(cfg.Path("ca"))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("found network %s: %w", o.Name, err)
	}
	k, err := loadKeys(cfg, o.Origin)
	if err != nil {
		return nil, fmt.Errorf("found network %s: %w", o.Name, err)
	}
	logKey, logVKey, err := tlog.GenerateLogKey(o.Origin)
	if err != nil {
		return nil, fmt.Errorf("found network %s: %w", o.Name, err)
	}
	if err := k.StoreLogKey(logKey); err != nil {
		return nil, fmt.Errorf("found network %s: %w", o.Name, err)
	}
	certs := map[string]identity.Subject{
		"node":      {Network: o.Name, Code: cfg.Centre, Serial: founderSerial, Roles: []identity.Role{identity.Centre, identity.Voter}},
		"operator":  officer(o.Name, cfg.Centre, founderSerial, identity.Operator),
		"registrar": officer(o.Name, cfg.Centre, founderSerial, identity.Registrar),
	}
	for name, subject := range certs {
		if err := issueLocally(cfg, ca, name, subject); err != nil {
			return nil, fmt.Errorf("found network %s: %w", o.Name, err)
		}
	}
	gossipKey := newGossipKey()
	if err := writeDurable(cfg.Path("keys", "gossip.key"), gossipKey); err != nil {
		return nil, fmt.Errorf("found network %s: %w", o.Name, err)
	}
	member, err := describe(cfg, k)
	if err != nil {
		return nil, fmt.Errorf("found network %s: %w", o.Name, err)
	}
	member.Serial, member.Voter = founderSerial, true
	if member.SealedLogKey, err = identity.Seal([]byte(logKey), k.Own().Recipient()); err != nil {
		return nil, fmt.Errorf("found network %s: %w", o.Name, err)
	}
	founding, err := proto.MarshalOptions{Deterministic: true}.Marshal(&registrypb.FoundNetwork{
		Name: o.Name, Origin: o.Origin, CaCertificate: ca.Cert.Raw, LogVkey: logVKey, Quorum: o.Quorum, Founder: member,
	})
	if err != nil {
		return nil, fmt.Errorf("found network %s: %w", o.Name, err)
	}
	if err := writeDurable(foundingPath(cfg), founding); err != nil {
		return nil, err
	}
	err = saveNetwork(cfg, &nodepb.EnrolReply{
		Network: o.Name, Origin: o.Origin, Member: member, CaCertificate: ca.Cert.Raw, Members: []*registrypb.Member{member},
	})
	if err != nil {
		return nil, err
	}
	return &Founded{ServerID: registry.MemberID(member), Origin: o.Origin, CAFingerprint: fmt.Sprintf("%x", ca.Fingerprint())}, nil
}

// foundingPath holds the founding command until the log has it.
func foundingPath(cfg config.Config) string { return cfg.Path("founding.pb") }

func freshDataDir(cfg config.Config) error {
	if err := cfg.MakeDataDir(); err != nil {
		return err
	}
	if _, err := registry.CurrentDivision(cfg.Centre); err != nil {
		return fmt.Errorf("centre %s: %w", cfg.Centre, err)
	}
	switch _, err := os.Stat(networkPath(cfg)); {
	case err == nil:
		return fmt.Errorf("%s: %w", cfg.DataDir, ErrEnrolled)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

func officer(network, code string, serial uint64, role identity.Role) identity.Subject {
	return identity.Subject{Network: network, Code: code, Serial: serial, Account: string(role), Roles: []identity.Role{role}}
}

func credentialsDir(cfg config.Config) string { return cfg.Path("credentials") }

func issueLocally(cfg config.Config, ca *identity.CA, name string, s identity.Subject) error {
	key, err := credentialKey(cfg, name)
	if err != nil {
		return err
	}
	csr, err := identity.CSR(key)
	if err != nil {
		return err
	}
	der, err := ca.Issue(csr, s)
	if err != nil {
		return err
	}
	cred, err := identity.NewCredential(key, der, ca.Cert)
	if err != nil {
		return err
	}
	return cred.Save(credentialsDir(cfg), name)
}

func credentialKey(cfg config.Config, name string) (crypto.Signer, error) {
	if err := os.MkdirAll(credentialsDir(cfg), 0o700); err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return identity.LoadOrCreateKey(credentialsDir(cfg), name)
}

// describe returns what this node says of itself when it joins; code and place come from its configuration.
func describe(cfg config.Config, k *keys) (*registrypb.Member, error) {
	node, err := credentialKey(cfg, "node")
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(node.Public())
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	sum := sha256.Sum256(spki)
	vkey, err := k.AuthorityVKey()
	if err != nil {
		return nil, fmt.Errorf("authority key: %w", err)
	}
	return &registrypb.Member{
		Code:             cfg.Centre,
		PeerAddress:      cfg.Peer.Advertise,
		GossipAddress:    cfg.Gossip.Advertise,
		WebAddress:       cfg.Web.Advertise,
		CredentialSha256: sum[:],
		CosignerVkey:     k.Cosigner.VKey(),
		AuthorityVkey:    vkey,
		ReceiptKey:       k.Receipt.Public().(ed25519.PublicKey),
		SealingRecipient: k.Own().Recipient().String(),
		LongitudeE6:      int32(math.Round(cfg.Longitude * 1e6)),
		LatitudeE6:       int32(math.Round(cfg.Latitude * 1e6)),
		Domain: &registrypb.FailureDomain{
			Site: cfg.Domain.Site, Power: cfg.Domain.Power, Array: cfg.Domain.Array, Administrator: cfg.Domain.Administrator,
		},
	}, nil
}

// Enrolled is what a new member needs to know.
type Enrolled struct {
	ServerID string
	Members  int // of the network, this one included
}

// Enrol joins the network that issued token, into an empty data directory. It may be repeated with the same token after
// an interruption, from the same directory.
func Enrol(ctx context.Context, cfg config.Config, token string) (*Enrolled, error) {
	t, err := identity.ParseToken(token)
	if err != nil {
		return nil, err
	}
	if t.Code != cfg.Centre {
		return nil, fmt.Errorf("the token invites centre %s, this configuration is for %s: %w", t.Code, cfg.Centre, registry.ErrInvitation)
	}
	if err := freshDataDir(cfg); err != nil {
		return nil, err
	}
	var lastErr error
	for _, address := range t.Addresses {
		e, err := enrolAt(ctx, cfg, t, address)
		if err == nil {
			return e, nil
		}
		lastErr = fmt.Errorf("enrol at %s: %w", address, err)
		var answered *rpc.Error
		if errors.As(err, &answered) && answered.Reason != "" {
			break
		}
	}
	return nil, lastErr
}

func enrolAt(ctx context.Context, cfg config.Config, t identity.Token, address string) (*Enrolled, error) {
	var ca *x509.Certificate
	conf := identity.EnrolTLS(t, func(c *x509.Certificate) { ca = c }, identity.ProtoGRPC)
	node, err := rpc.DialEnrolment(address, cfg.ProxyURL(), conf)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	client := node.Enrolment
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	about, err := client.Enrol(ctx, &nodepb.EnrolRequest{Secret: t.Secret[:], Prepare: true})
	if err != nil {
		return nil, err
	}
	k, err := loadKeys(cfg, about.GetOrigin())
	if err != nil {
		return nil, err
	}
	member, err := describe(cfg, k)
	if err != nil {
		return nil, err
	}
	req := &nodepb.EnrolRequest{Secret: t.Secret[:], Member: member}
	names := []string{"node", "operator", "registrar"}
	for i, csr := range []*[]byte{&req.NodeCsr, &req.OperatorCsr, &req.RegistrarCsr} {
		key, err := credentialKey(cfg, names[i])
		if err != nil {
			return nil, err
		}
		if *csr, err = identity.CSR(key); err != nil {
			return nil, err
		}
	}
	reply, err := client.Enrol(ctx, req)
	if err != nil {
		return nil, err
	}
	for i, der := range [][]byte{reply.GetNodeCertificate(), reply.GetOperatorCertificate(), reply.GetRegistrarCertificate()} {
		key, err := credentialKey(cfg, names[i])
		if err != nil {
			return nil, err
		}
		cred, err := identity.NewCredential(key, der, ca)
		if err != nil {
			return nil, err
		}
		if err := cred.Save(credentialsDir(cfg), names[i]); err != nil {
			return nil, err
		}
	}
	if err := writeDurable(cfg.Path("keys", "gossip.key"), reply.GetGossipKey()); err != nil {
		return nil, err
	}
	if sealed := reply.GetMember().GetSealedLogKey(); len(sealed) > 0 {
		logKey, err := k.Unseal(sealed)
		if err != nil {
			return nil, fmt.Errorf("log key: %w", err)
		}
		if err := k.StoreLogKey(string(logKey)); err != nil {
			return nil, err
		}
	}
	reply.GossipKey = nil
	reply.CaCertificate = ca.Raw
	if err := saveNetwork(cfg, reply); err != nil {
		return nil, err
	}
	return &Enrolled{ServerID: registry.MemberID(reply.GetMember()), Members: len(reply.GetMembers())}, nil
}

// OperatorTarget says how the node's own operator reaches it.
func OperatorTarget(cfg config.Config) rpc.Target {
	return rpc.Target{Address: cfg.Peer.Advertise, CredentialDir: credentialsDir(cfg), Name: "operator", Proxy: cfg.ProxyURL()}
}

func repositoriesDir(cfg config.Config) string { return cfg.Path("repositories") }
func heldDir(cfg config.Config) string         { return cfg.Path("held") }
func tablesDir(cfg config.Config) string       { return cfg.Path("tables") } // derived from index files; may be removed
func repositoryPasswordPath(cfg config.Config, id string) string {
	return filepath.Join(cfg.Path("keys"), "repository-"+id+".password")
}
