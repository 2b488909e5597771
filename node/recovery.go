package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/certificate"
	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
	"dengbei/replication"
	"dengbei/replication/manifest"
)

// escrowBundle is what the officers' shares open: everything of a centre that can be neither rebuilt nor re-issued.
type escrowBundle struct {
	Format    string            `json:"format"` // dengbei/escrow/v1
	Centre    string            `json:"centre"`
	Sealing   []string          `json:"sealing"`   // age identities
	Passwords map[string]string `json:"passwords"` // by repository
}

const escrowFormat = "dengbei/escrow/v1"

// Escrow encrypts this centre's keys under the secret and registers the bundle. Repositories of every class that has an
// agreement exist afterwards, so that the bundle covers them.
func (n *Node) Escrow(ctx context.Context, secret identity.Secret, threshold, shares uint32) error {
	if err := n.ledger.Await(ctx, nodepb.ReadLevel_LINEARIZABLE); err != nil {
		return err
	}
	agreements, err := n.ledger.state().Agreements(n.cfg.Centre, "")
	if err != nil {
		return err
	}
	classes := []string{defaultClass}
	for _, a := range agreements {
		if a.GetClass() != "" && !slices.Contains(classes, a.GetClass()) {
			classes = append(classes, a.GetClass())
		}
	}
	b := escrowBundle{Format: escrowFormat, Centre: n.cfg.Centre, Sealing: n.keys.SealingSecrets(), Passwords: map[string]string{}}
	for _, class := range classes {
		if _, err := n.keeper.Class(ctx, class); err != nil {
			return err
		}
	}
	repos, err := n.ledger.state().Repositories(n.cfg.Centre)
	if err != nil {
		return err
	}
	for _, r := range repos {
		lost, err := n.keeper.keyLost(r.GetId())
		if err != nil {
			return err
		}
		if lost {
			continue
		}
		password, err := readSecret(repositoryPasswordPath(n.cfg, r.GetId()))
		if errors.Is(err, fs.ErrNotExist) { // a new one would open nothing
			return fmt.Errorf("repository %s: %w", r.GetId(), rpc.ErrRecovering)
		}
		if err != nil {
			return fmt.Errorf("password of repository %s: %w", r.GetId(), err)
		}
		b.Passwords[r.GetId()] = strings.TrimSpace(string(password))
	}
	plain, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("escrow bundle: %w", err)
	}
	sealed, err := identity.SealBundle(secret, plain)
	if err != nil {
		return err
	}
	_, err = n.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_PutEscrow{PutEscrow: &registrypb.PutEscrow{
		Code: n.cfg.Centre, Bundle: sealed, Threshold: threshold, Shares: shares,
	}}})
	if err != nil {
		return err
	}
	return n.noteEscrowed(b)
}

// escrowedPath lists the repositories whose passwords are in escrow; it holds no secret.
func (n *Node) escrowedPath() string { return n.cfg.Path("keys", "escrowed.json") }

func (n *Node) noteEscrowed(b escrowBundle) error {
	ids := slices.Sorted(maps.Keys(b.Passwords))
	text, err := json.Marshal(ids)
	if err != nil {
		return fmt.Errorf("list of escrowed keys: %w", err)
	}
	return writeDurable(n.escrowedPath(), text)
}

// notEscrowed lists this centre's repositories that a disaster would leave unreadable: their passwords are in no escrow.
func (n *Node) notEscrowed() ([]string, error) {
	var escrowed []string
	b, err := os.ReadFile(n.escrowedPath())
	if err == nil {
		err = json.Unmarshal(b, &escrowed)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list of escrowed keys: %w", err)
	}
	repos, err := n.ledger.state().Repositories(n.cfg.Centre)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range repos {
		if slices.Contains(escrowed, r.GetId()) {
			continue
		}
		lost, err := n.keeper.keyLost(r.GetId())
		if err != nil {
			return nil, err
		}
		if !lost {
			out = append(out, r.GetId())
		}
	}
	return out, nil
}

// recovery rebuilds a lost centre on an empty disk: keys from escrow, files from the holders, then every record compared
// with its certificate.
type recovery struct {
	n      *Node
	report *nodepb.RecoveryReport
	tell   func(phase string, done, total uint64) error
	// lostFrom is the first manifest of a repository whose document no centre has: what was registered from there on had
	// no off-site copy.
	lostFrom map[string]uint64
	// noKey are the repositories whose passwords are in no escrow: nobody can open a copy.
	noKey map[string]bool
}

// Recover runs a recovery. It may be repeated after an interruption: what is back is not fetched again.
func (n *Node) Recover(ctx context.Context, secret identity.Secret, tell func(phase string, done, total uint64) error) (*nodepb.RecoveryReport, error) {
	if !n.recoverMu.TryLock() {
		return nil, fmt.Errorf("a recovery is running: %w", rpc.ErrState)
	}
	defer n.recoverMu.Unlock()
	start := time.Now()
	r := &recovery{n: n, report: &nodepb.RecoveryReport{}, tell: tell, lostFrom: map[string]uint64{}, noKey: map[string]bool{}}
	if err := tell("state", 0, 0); err != nil {
		return nil, err
	}
	if err := n.ledger.Await(ctx, nodepb.ReadLevel_LINEARIZABLE); err != nil {
		return nil, fmt.Errorf("bring the registry up to date: %w", err)
	}
	if err := r.keys(secret); err != nil {
		return nil, err
	}
	n.catalogue.Refill() // it was filled without the old sealing keys
	repos, err := n.ledger.state().Repositories(n.cfg.Centre)
	if err != nil {
		return nil, err
	}
	sources := map[string]*nodepb.RecoverySource{}
	for _, repo := range repos {
		if err := r.files(ctx, repo, sources); err != nil {
			return nil, err
		}
	}
	for _, s := range sources {
		r.report.Sources = append(r.report.Sources, s)
	}
	slices.SortFunc(r.report.Sources, func(a, b *nodepb.RecoverySource) int { return strings.Compare(a.GetServerId(), b.GetServerId()) })
	ctx, healed := collectHealed(ctx)
	if err := r.verify(ctx); err != nil {
		return nil, err
	}
	for _, h := range healed.all() {
		r.report.Damaged = append(r.report.Damaged, &nodepb.Healed{File: h.File, Source: h.Source})
	}
	r.report.Seconds = time.Since(start).Seconds()
	n.desk.poke()
	return r.report, nil
}

// keys opens the bundle and stores what is in it; files that are marked as coming back keep the desk from writing.
func (r *recovery) keys(secret identity.Secret) error {
	n := r.n
	escrow, err := n.ledger.state().Escrow(n.cfg.Centre)
	if errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("centre %s never escrowed its keys: its repositories can be fetched and not opened: %w", n.cfg.Centre, rpc.ErrLost)
	}
	if err != nil {
		return err
	}
	plain, err := identity.OpenBundle(secret, escrow.GetBundle())
	if err != nil {
		return fmt.Errorf("the shares do not open this centre's escrow bundle: %w: %w", rpc.ErrInvalid, err)
	}
	var b escrowBundle
	if err := json.Unmarshal(plain, &b); err != nil || b.Format != escrowFormat || b.Centre != n.cfg.Centre {
		return fmt.Errorf("escrow bundle is not one of centre %s: %w", n.cfg.Centre, rpc.ErrInvalid)
	}
	if err := n.keys.AddRecovered(b.Sealing); err != nil {
		return err
	}
	if err := n.noteEscrowed(b); err != nil {
		return err
	}
	repos, err := n.ledger.state().Repositories(n.cfg.Centre)
	if err != nil {
		return err
	}
	for i, repo := range repos {
		path := repositoryPasswordPath(n.cfg, repo.GetId())
		if _, err := os.Stat(path); err == nil {
			continue // back since an earlier, interrupted recovery
		}
		password, ok := b.Passwords[repo.GetId()]
		if !ok {
			// Made after the split. It is lost, and must not take the others with it.
			if err := writeDurable(n.keeper.closedMark(repo.GetId()), nil); err != nil {
				return err
			}
			r.noKey[repo.GetId()] = true
			continue
		}
		if err := writeDurable(n.keeper.recoveringMark(repo.GetId()), nil); err != nil {
			return err
		}
		if err := writeDurable(path, []byte(password+"\n")); err != nil {
			return err
		}
		if err := r.tell("keys", uint64(i+1), uint64(len(repos))); err != nil {
			return err
		}
	}
	return nil
}

// files brings one repository back up to the newest manifest of which every file is found.
func (r *recovery) files(ctx context.Context, repo *registrypb.Repository, sources map[string]*nodepb.RecoverySource) error {
	n, id := r.n, repo.GetId()
	mark := n.keeper.recoveringMark(id)
	if _, err := os.Stat(mark); err != nil {
		return nil // this repository is here
	}
	store, err := n.holdings.store(id, true)
	if err != nil {
		return err
	}
	for _, f := range repo.GetFiles() {
		name, err := chunkstore.ParseName(f.GetName())
		if err != nil {
			return fmt.Errorf("repository %s: %w", id, err)
		}
		if name.Kind == chunkstore.Config {
			name.ID = store.config
		}
		if err := store.files.PutBytes(ctx, name, f.GetContent()); err != nil {
			return fmt.Errorf("repository %s: %w", id, err)
		}
	}
	chain, err := n.ledger.state().Manifests(id, 0, 0)
	if err != nil {
		return err
	}
	if len(chain) > 0 {
		if err := r.fetch(ctx, store, id, chain, sources); err != nil {
			return err
		}
	}
	if err := os.Remove(mark); err != nil {
		return fmt.Errorf("repository %s: %w", id, err)
	}
	return nil
}

func (r *recovery) fetch(ctx context.Context, store *backupStore, id string, chain []*registrypb.Manifest, tally map[string]*nodepb.RecoverySource) error {
	n := r.n
	sources, err := n.holdings.sources(ctx, id, 1)
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		r.lostFrom[id] = 1
		return writeDurable(n.keeper.closedMark(id), nil)
	}
	var set manifest.Set
	var docs []manifest.Document
	for _, m := range chain {
		d, err := digest.FromBytes(digest.SHA256, m.GetDigest())
		if err != nil {
			return err
		}
		text, err := replication.FetchDocument(ctx, id, d, sources, n.docs)
		if errors.Is(err, replication.ErrIncomplete) && ctx.Err() == nil {
			// Nobody had fetched it yet. The repository is read up to here and written no more.
			r.lostFrom[id] = m.GetSequence()
			if err := writeDurable(n.keeper.closedMark(id), nil); err != nil {
				return err
			}
			break
		}
		if err != nil {
			return fmt.Errorf("manifest %d of %s: %w", m.GetSequence(), id, err)
		}
		doc, err := manifest.Parse(text)
		if err != nil {
			return fmt.Errorf("manifest %d of %s: %w", m.GetSequence(), id, err)
		}
		docs = append(docs, doc)
	}
	if len(docs) == 0 {
		return nil
	}
	if set, err = manifest.Apply(set, docs...); err != nil {
		return fmt.Errorf("manifests of %s: %w", id, err)
	}
	if err := set.Check(docs[len(docs)-1]); err != nil {
		return fmt.Errorf("manifests of %s: %w", id, err)
	}
	files := slices.Collect(set.Files())
	total := uint64(len(files))
	progress := make(chan struct{}, len(files))
	told := make(chan error, 1)
	go func() {
		var done uint64
		var err error
		for range progress {
			done++
			if err == nil && (done%16 == 0 || done == total) {
				err = r.tell("files", done, total)
			}
		}
		told <- err
	}()
	report, err := replication.Gather(ctx, replication.GatherConfig{
		Repository: id, Files: files, Sources: sources, Store: store, Streams: 2 * len(sources), Logger: n.log,
		OnFile: func(string, manifest.File) { progress <- struct{}{} },
	})
	close(progress)
	if tellErr := <-told; err == nil && tellErr != nil {
		return tellErr
	}
	for server, t := range report.PerSource {
		s := tally[server]
		if s == nil {
			s = &nodepb.RecoverySource{ServerId: server}
			tally[server] = s
		}
		s.Files += uint64(t.Files)
		s.SizeBytes += uint64(t.Bytes)
	}
	r.report.RepositoryFiles += total
	r.report.RepositoryBytes += uint64(set.SizeBytes())
	for _, b := range report.Damaged {
		r.report.Damaged = append(r.report.Damaged, &nodepb.Healed{File: b.Name, Source: b.Source})
	}
	if errors.Is(err, replication.ErrIncomplete) {
		for _, name := range report.Missing {
			r.report.Lost = append(r.report.Lost, id+" "+name)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("fetch repository %s: %w", id, err)
	}
	return nil
}

// verify compares every record of this centre with its certificate.
func (r *recovery) verify(ctx context.Context) error {
	n := r.n
	state := n.ledger.state()
	size := state.Size()
	var seq, done uint64
	for seq < size {
		page, err := state.Records(seq, 256)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, rec := range page {
			seq = rec.GetSeq() + 1
			if rec.GetAuthority() != n.cfg.Centre {
				continue
			}
			if id := rec.GetRepository(); r.noKey[id] {
				r.report.Lost = append(r.report.Lost, rec.GetNumber()+": the password of repository "+id+" is in no escrow; ask "+rec.GetRegistrant()+" for the originals")
				continue
			}
			if from := r.lostFrom[rec.GetRepository()]; from > 0 && rec.GetManifestSequence() >= from {
				r.report.Lost = append(r.report.Lost, rec.GetNumber()+": registered, but no centre had fetched its copy; ask "+rec.GetRegistrant()+" for the originals")
				continue
			}
			r.verifyRecord(ctx, rec)
			done++
			if err := r.tell("verify", done, 0); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	r.report.Records = done
	return nil
}

// verifyRecord checks the bag of one record, as it comes out of the repository, against the record's certificate.
func (r *recovery) verifyRecord(ctx context.Context, rec *registrypb.Record) {
	n := r.n
	raw, policy, err := certificateOf(n.ledger.state(), n.keys, rec)
	if err != nil {
		r.report.Mismatches = append(r.report.Mismatches, fmt.Sprintf("%s: no certificate: %v", rec.GetNumber(), err))
		return
	}
	verified, err := certificate.Verify(raw, policy)
	if err != nil {
		r.report.Mismatches = append(r.report.Mismatches, fmt.Sprintf("%s: certificate: %v", rec.GetNumber(), err))
		return
	}
	files, size, err := n.compareBag(ctx, rec, verified)
	r.report.Files += files
	r.report.SizeBytes += size
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			r.report.Mismatches = append(r.report.Mismatches, rec.GetNumber()+": "+line)
		}
		if errors.Is(err, repository.ErrDamaged) || errors.Is(err, repository.ErrNoBlob) || errors.Is(err, rpc.ErrLost) {
			r.report.Lost = append(r.report.Lost, rec.GetNumber())
		}
	}
}

// compareBag reads a record's bag from this centre's repository and compares the manifests with the certificate and
// every payload file with the manifests. It returns how much payload was compared.
func (n *Node) compareBag(ctx context.Context, rec *registrypb.Record, v *certificate.Verified) (files, sizeBytes uint64, err error) {
	own, err := n.keeper.Registered(ctx, rec.GetRepository())
	if err != nil {
		return 0, 0, err
	}
	snapshot, err := digest.Parse(rec.GetSnapshot())
	if err != nil {
		return 0, 0, err
	}
	bag := "/" + rec.GetContent().GetPath()
	sums := map[string]*bagSums{}
	for _, m := range []struct {
		file  string
		field tlog.FieldID
		alg   digest.Algorithm
	}{
		{"manifest-sha256.txt", tlog.FieldManifestSHA256, digest.SHA256},
		{"manifest-sm3.txt", tlog.FieldManifestSM3, digest.SM3},
	} {
		want, ok := v.Value(m.field)
		if !ok {
			return 0, 0, fmt.Errorf("the certificate does not disclose %s here", m.field)
		}
		text, err := readSnapshotFile(ctx, own.repo, snapshot, bag+"/"+m.file)
		if err != nil {
			return 0, 0, err
		}
		h := m.alg.New()
		h.Write(text)
		if got := digest.FromHash(m.alg, h); got.Hex() != want {
			return 0, 0, fmt.Errorf("%s is %s, the certificate says %s", m.file, got.Hex(), want)
		}
		if err := parseBagManifest(text, m.alg, sums); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", m.file, err)
		}
	}
	var failed []error
	root, err := restore.Find(ctx, own.repo, snapshot, bag+"/data")
	if err != nil {
		return 0, 0, err
	}
	if root.Subtree == nil {
		return 0, 0, fmt.Errorf("data is no directory")
	}
	err = restore.Walk(ctx, own.repo, *root.Subtree, func(path string, node *repository.Node, err error) error {
		if err != nil {
			failed = append(failed, fmt.Errorf("data%s: %w", path, err))
			return nil
		}
		if node.Type != repository.TypeFile {
			return nil
		}
		name := "data" + path
		want := sums[name]
		if want == nil {
			failed = append(failed, fmt.Errorf("%s is not listed in the manifests", name))
			return nil
		}
		want.seen = true
		pair := digest.NewPair()
		size, err := copyContent(ctx, own.repo, node, func(b []byte) error {
			_, err := pair.Write(b)
			return err
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
			return nil
		}
		sha, sm := pair.Sums()
		if sha.Hex() != want.sha256 || sm.Hex() != want.sm3 {
			failed = append(failed, fmt.Errorf("%s: content differs from the certified digests", name))
			return nil
		}
		files++
		sizeBytes += uint64(size)
		return nil
	})
	if err != nil {
		failed = append(failed, err)
	}
	for name, want := range sums {
		if !want.seen {
			failed = append(failed, fmt.Errorf("%s is missing", name))
		}
	}
	return files, sizeBytes, errors.Join(failed...)
}

type bagSums struct {
	sha256, sm3 string
	seen        bool
}

// maxBagManifestBytes bounds a bag manifest in memory.
const maxBagManifestBytes = 512 << 20

func readSnapshotFile(ctx context.Context, repo *repository.Repository, snapshot digest.Digest, path string) ([]byte, error) {
	f, err := restore.OpenFile(ctx, repo, snapshot, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBagManifestBytes+1))
	if err == nil && len(b) > maxBagManifestBytes {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxBagManifestBytes)
	}
	return b, err
}

// parseBagManifest reads lines of a payload manifest (RFC 8493, 2.1.3).
func parseBagManifest(text []byte, alg digest.Algorithm, sums map[string]*bagSums) error {
	decode := strings.NewReplacer("%0A", "\n", "%0a", "\n", "%0D", "\r", "%0d", "\r", "%25", "%")
	for line := range strings.Lines(string(text)) {
		sum, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(sum) != 2*digest.Size {
			return fmt.Errorf("line %q is no digest and path", line)
		}
		path = decode.Replace(path)
		s := sums[path]
		if s == nil {
			s = &bagSums{}
			sums[path] = s
		}
		if alg == digest.SM3 {
			s.sm3 = sum
		} else {
			s.sha256 = sum
		}
	}
	return nil
}
