package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/node/config"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/registrypb"
	"dengbei/replication/manifest"
)

// keeper owns this centre's repositories: it makes them, takes snapshots into them and builds the manifests that are
// registered for them. There is one writer to each repository, and it is this.
type keeper struct {
	cfg    config.Config
	ledger *ledger
	docs   *documents
	heal   func(ctx context.Context, repository string, name chunkstore.Name, cause error) error
	log    *slog.Logger

	mu   sync.Mutex // guards open; held while a repository is opened or made
	open map[string]*ownRepository
}

// ownRepository is one repository of this centre. Its lock is held during a snapshot.
type ownRepository struct {
	id    string
	class string
	files *chunkstore.Files
	repo  *repository.Repository

	mu  sync.Mutex
	set manifest.Set // registered, or about to be
}

func newKeeper(cfg config.Config, l *ledger, docs *documents, log *slog.Logger) *keeper {
	return &keeper{cfg: cfg, ledger: l, docs: docs, log: log, open: map[string]*ownRepository{}}
}

func (k *keeper) dir(id string) string { return filepath.Join(repositoriesDir(k.cfg), id) }

const firstEpoch = 1

// Recovering reports whether the registry knows a repository of this centre that is not on this disk with its password,
// or not in full: the centre was lost and is not back yet.
func (k *keeper) Recovering() (bool, error) {
	repos, err := k.ledger.state().Repositories(k.cfg.Centre)
	if err != nil {
		return false, err
	}
	for _, r := range repos {
		if lost, err := k.keyLost(r.GetId()); err != nil {
			return false, err
		} else if lost {
			continue
		}
		if _, err := os.Stat(repositoryPasswordPath(k.cfg, r.GetId())); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		} else if err != nil {
			return false, err
		}
		if _, err := os.Stat(k.recoveringMark(r.GetId())); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// keyLost reports whether a recovery found out that the password of a repository is in no escrow: the repository is
// closed, and there is nothing to open it with.
func (k *keeper) keyLost(id string) (bool, error) {
	for _, path := range []string{k.closedMark(id), repositoryPasswordPath(k.cfg, id)} {
		_, err := os.Stat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("repository %s: %w", id, err)
		}
		if there := err == nil; there != (path == k.closedMark(id)) {
			return false, nil
		}
	}
	return true, nil
}

// recoveringMark lies beside the password while the files of a repository come back.
func (k *keeper) recoveringMark(id string) string {
	return repositoryPasswordPath(k.cfg, id) + ".recovering"
}

// closedMark lies beside the password of a repository whose newest manifests were lost with the centre: it is read, and
// written no more.
func (k *keeper) closedMark(id string) string { return repositoryPasswordPath(k.cfg, id) + ".closed" }

// Class returns the centre's repository of a protection class for writing, made and registered if there is none yet.
func (k *keeper) Class(ctx context.Context, class string) (*ownRepository, error) {
	if !registry.ValidClass(class) { // it becomes a path
		return nil, fmt.Errorf("class %.80q names no repository: %w", class, rpc.ErrInvalid)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	epoch := uint32(firstEpoch)
	id := registry.RepositoryID(k.cfg.Centre, class, epoch)
	for {
		_, err := os.Stat(k.closedMark(id))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("repository %s: %w", id, err)
		}
		epoch++
		id = registry.RepositoryID(k.cfg.Centre, class, epoch)
	}
	_, err := k.ledger.state().Repository(id)
	if errors.Is(err, registry.ErrNotFound) {
		return k.create(ctx, id, class, epoch)
	}
	if err != nil {
		return nil, err
	}
	if own := k.open[id]; own != nil {
		head, err := k.ledger.state().Head(id)
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return nil, err
		}
		if string(head.GetDigest()) == string(tipBytes(own.set)) {
			return own, nil
		}
	}
	return k.load(ctx, id, class)
}

// tipBytes returns the digest of a set's last manifest, nil for the set before the first.
func tipBytes(s manifest.Set) []byte {
	if s.Tip().IsZero() {
		return nil
	}
	return s.Tip().Bytes()
}

// Registered opens a repository of this centre that the registry knows.
func (k *keeper) Registered(ctx context.Context, id string) (*ownRepository, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if own := k.open[id]; own != nil {
		return own, nil
	}
	r, err := k.ledger.state().Repository(id)
	if err != nil {
		return nil, err
	}
	if r.GetOwner() != k.cfg.Centre {
		return nil, fmt.Errorf("repository %s belongs to centre %s: %w", id, r.GetOwner(), rpc.ErrElsewhere)
	}
	return k.load(ctx, id, r.GetClass())
}

// create makes a repository, or takes up one whose registration a crash prevented, and registers its config and keys,
// which cannot be rebuilt. k.mu is held.
func (k *keeper) create(ctx context.Context, id, class string, epoch uint32) (*ownRepository, error) {
	password, err := k.password(id)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(repositoriesDir(k.cfg), 0o700); err != nil {
		return nil, fmt.Errorf("repository %s: %w", id, err)
	}
	files, err := k.createFiles(id)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", id, err)
	}
	healing := k.healing(id, files)
	options := repository.Options{CacheDir: tablesDir(k.cfg)}
	repo, err := repository.Init(ctx, healing, password, options)
	if errors.Is(err, repository.ErrExists) {
		repo, err = repository.Open(ctx, healing, password, options)
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", id, err)
	}
	r := &registrypb.Repository{Id: id, Owner: k.cfg.Centre, Class: class, Epoch: epoch}
	for _, kind := range []chunkstore.Kind{chunkstore.Config, chunkstore.Key} {
		for e, err := range files.List(ctx, kind) {
			if err != nil {
				return nil, fmt.Errorf("repository %s: %w", id, err)
			}
			b, err := readName(ctx, files, e.Name)
			if err != nil {
				return nil, fmt.Errorf("repository %s: %w", id, err)
			}
			r.Files = append(r.Files, &registrypb.RepositoryFile{Name: e.Name.String(), Content: b})
		}
	}
	_, err = k.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_PutRepository{
		PutRepository: &registrypb.PutRepository{Repository: r},
	}})
	if err != nil {
		return nil, fmt.Errorf("register repository %s: %w", id, err)
	}
	k.log.Info("repository made", "repository", id)
	own := &ownRepository{id: id, class: class, files: files, repo: repo}
	k.open[id] = own
	return own, nil
}

// createFiles makes the directory of a repository, or opens one that was finished and could not be registered: its quorum
// was away, or the reply was lost. The config is the last file that is made.
func (k *keeper) createFiles(id string) (*chunkstore.Files, error) {
	if _, err := os.Stat(filepath.Join(k.dir(id), "config")); err == nil {
		return k.openFiles(id)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := chunkstore.Create(k.dir(id)); err != nil {
		return nil, err
	}
	return k.openFiles(id)
}

// openFiles opens the directory of a repository of this centre and marks it as the node's.
func (k *keeper) openFiles(id string) (*chunkstore.Files, error) {
	files, err := chunkstore.Open(k.dir(id))
	if err != nil {
		return nil, err
	}
	return files, markRepository(files, chunkstore.Owner{Repository: id, Centre: k.cfg.Centre})
}

func readName(ctx context.Context, files *chunkstore.Files, n chunkstore.Name) ([]byte, error) {
	r, err := files.Open(ctx, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// password returns the repository's password, drawn and made durable before anything is encrypted under it.
func (k *keeper) password(id string) (string, error) {
	path := repositoryPasswordPath(k.cfg, id)
	b, err := readSecret(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("password of repository %s: %w", id, err)
	}
	password := rand.Text() + rand.Text()
	if err := writeDurable(path, []byte(password+"\n")); err != nil {
		return "", fmt.Errorf("password of repository %s: %w", id, err)
	}
	return password, nil
}

// load opens a registered repository. k.mu is held.
func (k *keeper) load(ctx context.Context, id, class string) (*ownRepository, error) {
	if lost, err := k.keyLost(id); err != nil {
		return nil, err
	} else if lost {
		return nil, fmt.Errorf("repository %s: its password was lost with the centre and is in no escrow: %w", id, rpc.ErrLost)
	}
	if _, err := os.Stat(k.recoveringMark(id)); err == nil {
		return nil, fmt.Errorf("repository %s: %w", id, rpc.ErrRecovering)
	}
	b, err := readSecret(repositoryPasswordPath(k.cfg, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("repository %s: %w", id, rpc.ErrRecovering)
	}
	if err != nil {
		return nil, fmt.Errorf("password of repository %s: %w", id, err)
	}
	set, whole, err := k.registeredSet(id)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(k.closedMark(id)); err != nil && !whole {
		return nil, fmt.Errorf("repository %s: the document of its newest manifest is missing here: %w", id, rpc.ErrLost)
	}
	files, err := k.openFiles(id)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", id, err)
	}
	// What is still missing after this is read around, if it can be.
	lost := k.refill(ctx, id, files, set)
	repo, err := repository.Open(ctx, k.healing(id, files), strings.TrimSpace(string(b)), repository.Options{ReadHeaders: lost, CacheDir: tablesDir(k.cfg)})
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", id, err)
	}
	if err := repo.TableErr(); err != nil {
		k.log.Warn("the index of a repository is kept in memory", "repository", id, "err", err)
	}
	own := &ownRepository{id: id, class: class, files: files, repo: repo, set: set}
	k.open[id] = own
	return own, nil
}

// refill heals registered files that opening a repository needs and that a listing of the disk does not show to be
// missing: config, keys and index. It reports whether an index file could not be brought back.
func (k *keeper) refill(ctx context.Context, id string, files *chunkstore.Files, set manifest.Set) (lostIndex bool) {
	for f := range set.Files() {
		name, err := chunkstore.ParseName(f.Name)
		if err != nil || name.Kind == chunkstore.Pack || name.Kind == chunkstore.Snapshot {
			continue // documents; packs and snapshots are healed when they are read
		}
		name.ID = f.SHA256
		if name.Kind == chunkstore.Config {
			err = files.Verify(ctx, name) // its name on disk says nothing about its bytes
		} else {
			_, err = files.Stat(name)
		}
		if err == nil {
			continue
		}
		if err := k.healing(id, files).Heal(ctx, name, err); err != nil {
			k.log.Error("repository file is missing", "repository", id, "file", f.Name, "err", err)
			lostIndex = lostIndex || name.Kind == chunkstore.Index
		}
	}
	return lostIndex
}

// registeredSet rebuilds the set of files from the registered chain of manifests, as far as their documents are here.
// whole says that it is the set after the newest one.
func (k *keeper) registeredSet(id string) (set manifest.Set, whole bool, err error) {
	chain, err := k.ledger.state().Manifests(id, 0, 0)
	if err != nil {
		return set, false, err
	}
	return k.setOf(id, chain)
}

// setAt rebuilds the set of files after one manifest of any repository, as far as the documents are here.
func (k *keeper) setAt(id string, sequence uint64) (manifest.Set, error) {
	chain, err := k.ledger.state().Manifests(id, 0, 0)
	if err != nil {
		return manifest.Set{}, err
	}
	n := slices.IndexFunc(chain, func(m *registrypb.Manifest) bool { return m.GetSequence() > sequence })
	if n >= 0 {
		chain = chain[:n]
	}
	set, _, err := k.setOf(id, chain)
	return set, err
}

func (k *keeper) setOf(id string, chain []*registrypb.Manifest) (set manifest.Set, whole bool, err error) {
	docs := make([]manifest.Document, 0, len(chain))
	for _, m := range chain {
		d, err := digest.FromBytes(digest.SHA256, m.GetDigest())
		if err != nil {
			return set, false, fmt.Errorf("manifest %d of %s: %w", m.GetSequence(), id, err)
		}
		b, err := k.docs.Get(d)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return set, false, fmt.Errorf("manifest %d of %s: %w", m.GetSequence(), id, err)
		}
		doc, err := manifest.Parse(b)
		if err != nil {
			return set, false, fmt.Errorf("manifest %d of %s: %w", m.GetSequence(), id, err)
		}
		docs = append(docs, doc)
	}
	if len(docs) == 0 {
		return set, len(chain) == 0, nil
	}
	if set, err = manifest.Apply(set, docs...); err != nil {
		return set, false, fmt.Errorf("manifests of %s: %w", id, err)
	}
	return set, len(docs) == len(chain), set.Check(docs[len(docs)-1])
}

// dropOrphans removes snapshot files that no manifest names: their submissions were not registered, so their bytes are
// still in the quarantine and will be taken again. The caller knows that set is complete and that no snapshot waits to be
// registered.
func dropOrphans(ctx context.Context, files *chunkstore.Files, set manifest.Set) error {
	for e, err := range files.List(ctx, chunkstore.Snapshot) {
		if err != nil {
			return err
		}
		if _, ok := set.File(e.Name.String()); ok {
			continue
		}
		if err := files.Remove(ctx, e.Name); err != nil {
			return err
		}
	}
	return nil
}

// taken is a snapshot with its manifest, durable here and not registered yet.
type taken struct {
	snapshot digest.Digest
	document digest.Digest
	manifest *registrypb.Manifest
	next     manifest.Set
}

// Snapshot backs up the roots, reads everything it wrote back from disk, and builds the manifest over the new set with
// the given documents in it. The caller registers the manifest and calls [ownRepository.Registered]; own.mu is held by
// the caller from before Snapshot until after that, own came from [keeper.Class] with an up-to-date replica, and nothing
// that was snapshotted waits to be registered.
func (k *keeper) Snapshot(ctx context.Context, own *ownRepository, roots []archive.Root, bodies []digest.Digest, at time.Time) (*taken, error) {
	if err := dropOrphans(ctx, own.files, own.set); err != nil {
		return nil, fmt.Errorf("repository %s: %w", own.id, err)
	}
	result, err := archive.Backup(ctx, own.repo, archive.Options{Roots: roots, Host: k.cfg.Centre, Tags: []string{"dengbei"}, Time: at})
	if err != nil {
		return nil, fmt.Errorf("snapshot into %s: %w", own.id, err)
	}
	added, err := k.added(ctx, own, result.SnapshotID)
	if err != nil {
		return nil, fmt.Errorf("read back %s: %w", own.id, err)
	}
	for _, d := range bodies {
		f, err := k.body(d)
		if err != nil {
			return nil, err
		}
		if _, ok := own.set.File(f.Name); !ok {
			added = append(added, f)
		}
	}
	doc, next, err := manifest.Next(own.set, own.id, result.SnapshotID.Hex(), unique(added), nil)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", own.id, err)
	}
	text, err := doc.Encode()
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", own.id, err)
	}
	id, err := k.docs.PutBytes(text)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", own.id, err)
	}
	m := &registrypb.Manifest{
		Digest: id.Bytes(), Repository: own.id, Snapshot: result.SnapshotID.Hex(), SetRoot: doc.SetRoot[:],
		Files: doc.SetFiles, SizeBytes: uint64(doc.SetBytes), DocumentBytes: uint64(len(text)),
		FilesAdded: uint64(len(doc.Added)), BytesAdded: uint64(doc.AddedBytes),
	}
	if !doc.Parent.IsZero() {
		m.Parent = doc.Parent.Bytes()
	}
	return &taken{snapshot: result.SnapshotID, document: id, manifest: m, next: next}, nil
}

func unique(files []manifest.File) []manifest.File {
	seen := make(map[string]bool, len(files))
	out := files[:0]
	for _, f := range files {
		if !seen[f.Name] {
			seen[f.Name] = true
			out = append(out, f)
		}
	}
	return out
}

// added lists every file of the repository that no manifest names yet and hashes it as it lies on disk. Other
// snapshots than the one just taken are left out.
func (k *keeper) added(ctx context.Context, own *ownRepository, snapshot digest.Digest) ([]manifest.File, error) {
	var out []manifest.File
	for _, kind := range []chunkstore.Kind{chunkstore.Config, chunkstore.Key, chunkstore.Pack, chunkstore.Index, chunkstore.Snapshot} {
		for e, err := range own.files.List(ctx, kind) {
			if err != nil {
				return nil, err
			}
			if kind == chunkstore.Snapshot && e.Name.ID != snapshot {
				continue
			}
			if _, ok := own.set.File(e.Name.String()); ok {
				continue
			}
			f, err := readBack(ctx, own.files, e.Name)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// readBack hashes a stored file: its name is checked and its leaf root computed from the same bytes.
func readBack(ctx context.Context, files *chunkstore.Files, n chunkstore.Name) (manifest.File, error) {
	r, err := files.Open(ctx, n)
	if err != nil {
		return manifest.File{}, err
	}
	defer r.Close()
	root, size, err := manifest.LeafRoot(r)
	if err != nil {
		return manifest.File{}, fmt.Errorf("%s: %w", n, err)
	}
	return manifest.File{Name: n.String(), SizeBytes: size, SHA256: n.ID, LeafRoot: root}, nil
}

// body describes a document as a file of a backup.
func (k *keeper) body(d digest.Digest) (manifest.File, error) {
	b, err := k.docs.Get(d)
	if err != nil {
		return manifest.File{}, err
	}
	root, size, err := manifest.LeafRoot(bytes.NewReader(b))
	if err != nil {
		return manifest.File{}, err
	}
	return manifest.File{Name: documentName(d), SizeBytes: size, SHA256: d, LeafRoot: root}, nil
}

func documentName(d digest.Digest) string { return "documents/" + d.Hex() }

// Registered moves own to the set after t. own.mu is held.
func (own *ownRepository) Registered(t *taken) { own.set = t.next }

// healing lets the repository ask for a sound copy of a file that cannot be read.
func (k *keeper) healing(id string, files *chunkstore.Files) *healingFiles {
	return &healingFiles{Files: files, id: id, keeper: k}
}

type healingFiles struct {
	*chunkstore.Files
	id     string
	keeper *keeper
}

// Heal implements [repository.Healer].
func (h *healingFiles) Heal(ctx context.Context, name chunkstore.Name, cause error) error {
	if h.keeper.heal == nil {
		return cause
	}
	return h.keeper.heal(ctx, h.id, name, cause)
}
