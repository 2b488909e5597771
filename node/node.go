// Package node is one archive centre's process: the only place where the registry, the chunk store, replication and the
// network meet.
//
// It decides nothing that centres must agree on. It receives deliveries, drives them through inspection and decision to
// a number, keeps the copies that agreements ask for, publishes checkpoints while it leads, and answers about all of it.
// Every loop works from durable state and can be killed at any point.
package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"dengbei/node/config"
	"dengbei/node/consensus"
	"dengbei/node/gossip"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/catalogue"
	"dengbei/registry/intake"
	"dengbei/registry/registrypb"
	"dengbei/replication"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
)

// Node is a running centre. See [Run].
type Node struct {
	cfg       config.Config
	log       *slog.Logger
	network   *nodepb.EnrolReply
	serverID  string
	gossipKey []byte
	ca        *identity.CA // nil on all nodes but the one that holds the CA

	keys       *keys
	cred       *identity.Current
	trust      *identity.Trust
	members    *membership
	mux        *identity.Mux
	fsm        *registry.FSM
	raft       *consensus.Raft
	peers      *rpc.Peers
	ledger     *ledger
	docs       *documents
	quarantine *intake.Quarantine
	keeper     *keeper
	holdings   *holdings
	healer     *healer
	desk       *desk
	cosigner   *cosigner
	replicator *replication.Replicator
	gossip     *gossip.Gossip
	catalogue  *catalogue.Catalogue
	alarms     alarms
	// longDescriptions has a place for each long description that is being received.
	longDescriptions chan struct{}
	titles           titles

	recoverMu sync.Mutex // held by a recovery
}

// Addresses are where a running node listens.
type Addresses struct {
	Peer, Gossip, Web string
}

// Run starts the centre whose data directory cfg names and returns when ctx has ended and everything has stopped: first
// the ports, then leadership is handed over, then the state is closed. ready, if not nil, is called once all ports
// listen. A node whose quorum is away starts all the same and keeps trying.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger, ready func(Addresses)) (err error) {
	n := &Node{cfg: cfg, log: log, longDescriptions: make(chan struct{}, maxLongDescriptions)}
	var closers []func() error
	defer func() {
		for i := len(closers) - 1; i >= 0; i-- {
			err = errors.Join(err, closers[i]())
		}
	}()
	onClose := func(f func() error) { closers = append(closers, f) }
	if err := n.open(onClose); err != nil {
		return err
	}
	peerListener, err := net.Listen("tcp", cfg.Peer.Listen)
	if err != nil {
		return fmt.Errorf("peer port: %w", err)
	}
	n.mux = identity.NewMux(peerListener, identity.ServerTLS(n.cred, n.trust, identity.ProtoRaft, identity.ProtoGRPC), log)
	onClose(n.mux.Close)
	n.mux.Allow(identity.ProtoRaft, n.members.MayVote)
	grpcListener := n.mux.Listener(identity.ProtoGRPC)
	if err := n.startRaft(onClose); err != nil {
		return err
	}
	if err := n.assemble(onClose); err != nil {
		return err
	}
	server, err := n.rpcServer()
	if err != nil {
		return err
	}
	web, webListener, err := n.webServer()
	if err != nil {
		return err
	}
	if err := n.startGossip(onClose); err != nil {
		return errors.Join(err, webListener.Close())
	}

	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	loops := []func(context.Context){
		n.ledger.run, n.desk.run, n.desk.signStatements, n.holdings.watch, n.watchRevocations, n.followCatalogue, n.found,
		(&reconciler{ledger: n.ledger, log: log}).run,
		(&publisher{ledger: n.ledger, keys: n.keys, own: n.cosigner, log: log}).run,
		n.replicate,
	}
	for _, loop := range loops {
		running.Go(func() { loop(work) })
	}
	serveFailed := make(chan error, 2)
	running.Go(func() {
		if err := server.Serve(grpcListener); err != nil && ctx.Err() == nil {
			serveFailed <- fmt.Errorf("peer port: %w", err)
		}
	})
	running.Go(func() {
		if err := web.ServeTLS(webListener, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
			serveFailed <- fmt.Errorf("web port: %w", err)
		}
	})
	log.Info("node is up", "centre", n.serverID, "peer", n.mux.Addr().String())
	if ready != nil {
		ready(Addresses{Peer: n.mux.Addr().String(), Gossip: n.gossip.Address(), Web: webListener.Addr().String()})
	}
	select {
	case <-ctx.Done():
	case err = <-serveFailed:
	}
	log.Info("node is stopping", "centre", n.serverID)
	stopServer(server)
	err = errors.Join(err, web.Close())
	stop()
	running.Wait()
	return err
}

// stopServer lets calls under way finish, but not for long: streams that wait for news would never end.
func stopServer(s *grpc.Server) {
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		s.Stop()
		<-done
	}
}

// open reads what lies on disk.
func (n *Node) open(onClose func(func() error)) (err error) {
	if err := n.cfg.MakeDataDir(); err != nil {
		return err
	}
	if n.network, err = loadNetwork(n.cfg); err != nil {
		return err
	}
	n.serverID = registry.MemberID(n.network.GetMember())
	if n.network.GetMember().GetCode() != n.cfg.Centre {
		return fmt.Errorf("data_dir %s belongs to centre %s, the configuration is for %s, give each centre a directory of its own: %w", n.cfg.DataDir, n.network.GetMember().GetCode(), n.cfg.Centre, config.ErrInvalid)
	}
	if n.keys, err = loadKeys(n.cfg, n.network.GetOrigin()); err != nil {
		return err
	}
	if n.gossipKey, err = loadGossipKey(n.cfg); err != nil {
		return err
	}
	cred, err := identity.Load(credentialsDir(n.cfg), "node")
	if err != nil {
		return fmt.Errorf("node credential: %w", err)
	}
	ca, err := x509.ParseCertificate(n.network.GetCaCertificate())
	if err != nil {
		return fmt.Errorf("CA certificate: %w", err)
	}
	n.cred, n.trust = identity.NewCurrent(cred), identity.NewTrust(n.network.GetNetwork(), ca)
	if n.ca, err = identity.LoadCA(n.cfg.Path("ca")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n.docs, err = openDocuments(n.cfg.Path("documents")); err != nil {
		return err
	}
	if n.quarantine, err = intake.OpenQuarantine(n.cfg.Path("quarantine")); err != nil {
		return err
	}
	onClose(n.quarantine.Close)
	n.fsm, err = registry.NewFSM(n.cfg.Path("state"), registry.Options{
		CacheBytes: n.cfg.StateCacheBytes,
		CheckNote: func(c *registrypb.PublishCheckpoint) error {
			policy, err := policyOf(n.fsm.State())
			if err != nil {
				return err
			}
			cp, err := policy.Check(c.GetNote())
			if err != nil {
				return err
			}
			if cp.Size != c.GetSize() || string(cp.Root[:]) != string(c.GetRoot()) {
				return fmt.Errorf("note and command disagree: %w", registry.ErrCheckpointRoot)
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	onClose(n.fsm.Close)
	n.members = &membership{initial: append(n.network.GetMembers(), n.network.GetMember()), state: n.fsm.State}
	return nil
}

func (n *Node) startRaft(onClose func(func() error)) error {
	timing := consensus.WAN()
	if n.cfg.Timing == "lan" {
		timing = consensus.LAN()
	}
	dialer := &identity.Dialer{Proxy: n.cfg.ProxyURL()}
	r, err := consensus.Start(consensus.Config{
		Dir: n.cfg.Path("raft"), ServerID: n.serverID, FSM: n.fsm, Listener: n.mux.Listener(identity.ProtoRaft),
		Dial: func(ctx context.Context, serverID string) (net.Conn, error) {
			address, err := n.members.Resolve(serverID)
			if err != nil {
				return nil, err
			}
			return dialer.DialTLS(ctx, address, identity.ClientTLS(n.cred, n.trust, identity.ExpectServer(serverID), identity.ProtoRaft))
		},
		Applied:         n.fsm.AppliedIndex,
		SnapshotApplied: n.snapshotApplied,
		Timing:          timing,
		Logger:          n.log,
	})
	if err != nil {
		return err
	}
	n.raft = r
	onClose(r.Close)
	return nil
}

// snapshotApplied reads the state's own applied index from a snapshot: Raft's index also counts entries that the state
// never sees.
func (n *Node) snapshotApplied(meta consensus.SnapshotMeta) (index uint64, err error) {
	f, err := os.Open(n.cfg.Path("raft", "snapshots", meta.ID, "state.bin"))
	if err != nil {
		return 0, fmt.Errorf("snapshot %s: %w", meta.ID, err)
	}
	defer f.Close()
	return registry.SnapshotIndex(f)
}

// assemble joins the parts of a centre.
func (n *Node) assemble(onClose func(func() error)) (err error) {
	_, serial, err := registry.ParseServerID(n.serverID)
	if err != nil {
		return err
	}
	n.peers = rpc.NewPeers(n.cred, n.trust, n.cfg.ProxyURL(), n.members.Resolve)
	onClose(func() error { n.peers.Close(); return nil })
	n.ledger = newLedger(n.raft, n.fsm, n.peers, n.serverID, n.log)
	n.keeper = newKeeper(n.cfg, n.ledger, n.docs, n.log)
	n.holdings = newHoldings(n.cfg, n.ledger, n.keys, n.docs, n.peers, serial)
	n.healer = &healer{keeper: n.keeper, holdings: n.holdings, log: n.log}
	n.keeper.heal = n.healer.Heal
	n.desk = newDesk(n.cfg, n.quarantine, n.keeper, n.ledger, n.keys, n.docs, n.log)
	if n.cosigner, err = openCosigner(n.cfg.Path("cosigned.json"), n.keys.Cosigner, n.fsm.State); err != nil {
		return err
	}
	if n.catalogue, err = catalogue.Open(n.cfg.Path("catalogue.db"), catalogue.Options{Unseal: n.unsealForCatalogue}); err != nil {
		return err
	}
	onClose(n.catalogue.Close)
	n.replicator, err = replication.New(replication.Config{
		Ledger: n.holdings, Documents: n.docs, Peers: n.holdings, OpenStore: n.holdings.OpenStore,
		CacheDir: n.cfg.Path("sets"), BytesPerSecond: n.cfg.PullBytesPerSecond, RetryMin: 500 * time.Millisecond, RetryMax: 30 * time.Second,
		Observer: observer{n}, Logger: n.log,
	})
	return err
}

// observer turns what replication finds into alarms.
type observer struct{ n *Node }

// Received implements [replication.Observer].
func (observer) Received(string, string, manifest.File) {}

// Damaged implements [replication.Observer].
func (o observer) Damaged(repository, source, name string) {
	o.n.alarm("a peer delivered a damaged file", fmt.Errorf("%s of repository %s from %s", name, repository, source))
}

// Missing implements [replication.Observer].
func (observer) Missing(string, string, string) {}

// Confirmed implements [replication.Observer].
func (o observer) Confirmed(r replication.Receipt) {
	o.n.log.Info("off-site copy confirmed", "repository", r.Repository, "seq", r.Sequence, "bytes", r.SizeBytes)
}

func (n *Node) replicate(ctx context.Context) {
	if err := n.replicator.Run(ctx); err != nil && ctx.Err() == nil {
		n.alarm("replication stopped", err)
	}
}

func (n *Node) rpcServer() (*grpc.Server, error) {
	transfer, err := replication.NewServer(replication.ServerConfig{
		Allow: n.holdings.Allow, Open: n.holdings.OpenContent, Document: n.holdings.OpenDocument,
		Damaged: func(repository, name string, err error) {
			n.alarm("a file held here is damaged", fmt.Errorf("%s of repository %s: %w", name, repository, err))
		},
	})
	if err != nil {
		return nil, err
	}
	s := rpc.NewServer(rpc.ServerConfig{Current: n.members.Current, Logger: n.log})
	nodepb.RegisterEnrolmentServer(s, enrolmentService{n: n})
	nodepb.RegisterNetworkServer(s, networkService{n: n})
	nodepb.RegisterSubmissionsServer(s, submissionsService{n: n})
	nodepb.RegisterRecordsServer(s, recordsService{n: n})
	nodepb.RegisterBackupsServer(s, backupsService{n: n})
	nodepb.RegisterPeeringServer(s, peeringService{n: n})
	replicationpb.RegisterTransferServer(s, transfer)
	return s, nil
}

func (n *Node) webServer() (*http.Server, net.Listener, error) {
	l, err := net.Listen("tcp", n.cfg.Web.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("web port: %w", err)
	}
	return &http.Server{
		Handler:           n.webHandler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return &n.cred.Load().Cert, nil
			},
		},
	}, netutil.LimitListener(l, maxWebConns), nil
}

func (n *Node) startGossip(onClose func(func() error)) (err error) {
	timing := gossip.WAN()
	if n.cfg.Timing == "lan" {
		timing = gossip.Loopback()
	}
	n.gossip, err = gossip.Start(gossip.Config{
		Name: n.serverID, Bind: n.cfg.Gossip.Listen, Advertise: n.cfg.Gossip.Advertise, Key: n.gossipKey,
		Label: n.network.GetNetwork(), Known: n.members.Gossip, Timing: timing, Logger: n.log,
	})
	if err != nil {
		return fmt.Errorf("gossip port: %w", err)
	}
	onClose(n.gossip.Close)
	return nil
}

// found writes the first command of a new network's log, on the node that founds it.
func (n *Node) found(ctx context.Context) {
	b, err := os.ReadFile(foundingPath(n.cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	command := &registrypb.FoundNetwork{}
	if err == nil {
		err = proto.Unmarshal(b, command)
	}
	if err != nil {
		n.alarm("the founding of the network cannot be read", err)
		return
	}
	if err := n.raft.Bootstrap(n.serverID); err != nil && !errors.Is(err, consensus.ErrBootstrapped) {
		n.alarm("the network cannot be founded", err)
		return
	}
	for ctx.Err() == nil {
		_, err := n.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_FoundNetwork{FoundNetwork: command}})
		if err == nil || errors.Is(err, registry.ErrFounded) {
			if err := os.Remove(foundingPath(n.cfg)); err != nil {
				n.log.Warn("founding file stays", "err", err)
			}
			n.log.Info("network founded", "centre", n.serverID)
			return
		}
		sleep(ctx, 200*time.Millisecond)
	}
}
