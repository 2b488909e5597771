package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
	"dengbei/deploy/bench/process"
)

const password = "correct horse"

// chunkBytes is the mean of the profile for databases: it makes the most chunks.
const chunkBytes = 64 << 10

// filesPerDir and dataEvery shape the inputs: so many files in a directory, and one chunk of so many that is not zero.
const (
	filesPerDir = 1000
	dataEvery   = 20
)

var children = process.Child[task, float64](do)

// do does a task. It returns the largest resident memory of the process in MiB.
func do(ctx context.Context, t task) (float64, error) {
	do := restoreOnce
	if t.Do == "make" {
		do = makeRepository
	}
	if err := do(ctx, t); err != nil {
		return 0, err
	}
	_, peak, err := process.Memory()
	return process.MiB(peak), err
}

func restoreOnce(ctx context.Context, t task) error {
	files, err := chunkstore.Open(t.Repo)
	if err != nil {
		return err
	}
	repo, err := repository.Open(ctx, files, password, repository.Options{})
	if err != nil {
		return err
	}
	all, _, err := repo.Snapshots(ctx)
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("%d snapshots", len(all))
	}
	result, err := restore.Restore(ctx, repo, all[0].ID, t.Target, restore.Options{Sparse: t.Input.Sparse, Owner: os.Geteuid() == 0})
	if err != nil {
		return err
	}
	if want := max(1, t.Input.Files); result.Files != int64(want) {
		return fmt.Errorf("%d files restored of %d", result.Files, want)
	}
	return nil
}

// maker writes a repository without any files to back up: they would take longer than all else.
type maker struct {
	ctx     context.Context
	session *repository.Session
	random  *rand.ChaCha8
	at      time.Time
}

func makeRepository(ctx context.Context, t task) error {
	files, err := chunkstore.Create(t.Repo)
	if err != nil {
		return err
	}
	repo, err := repository.Init(ctx, files, password, repository.Options{Chunks: repository.DatabaseChunks(), Scrypt: repository.Scrypt{N: 1 << 10, R: 8, P: 1}})
	if err != nil {
		return err
	}
	m := &maker{ctx: ctx, session: repo.NewSession(), random: rand.NewChaCha8(sha256.Sum256([]byte(t.Input.Name))), at: time.Date(2026, 1, 1, 0, 0, 0, 123456789, time.UTC)}
	defer m.session.Close()
	make := m.manyFiles
	if t.Input.Files == 0 {
		make = m.hugeFile
	}
	nodes, err := make(t.Input)
	if err != nil {
		return err
	}
	tree, err := m.session.SaveTree(ctx, &repository.Tree{Nodes: nodes})
	if err != nil {
		return err
	}
	_, err = m.session.SaveSnapshot(ctx, &repository.Snapshot{Time: m.at, Tree: tree, Paths: []string{"/"}, Hostname: "bench"})
	return err
}

func (m *maker) node(name, typ string, mode fs.FileMode) repository.Node {
	return repository.Node{Name: name, Type: typ, Mode: mode, ModTime: m.at, AccessTime: m.at, ChangeTime: m.at,
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), User: "bench", Group: "bench", Links: 1}
}

func (m *maker) chunk(b []byte) (repository.ID, error) {
	_, _ = m.random.Read(b) // never fails
	id, _, err := m.session.SaveBlob(m.ctx, repository.DataBlob, b)
	return id, err
}

// manyFiles returns directories of files that differ.
func (m *maker) manyFiles(in input) ([]repository.Node, error) {
	var dirs []repository.Node
	b := make([]byte, 2*in.FileBytes)
	for first := 0; first < in.Files; first += filesPerDir {
		var nodes []repository.Node
		for i := first; i < min(first+filesPerDir, in.Files); i++ {
			n := m.node(fmt.Sprintf("record-%08d.xml", i), repository.TypeFile, 0o644)
			n.Inode, n.DeviceID, n.SizeBytes = uint64(i+1), 1, m.random.Uint64()%uint64(len(b))+1
			id, err := m.chunk(b[:n.SizeBytes])
			if err != nil {
				return nil, err
			}
			n.Content = []repository.ID{id}
			nodes = append(nodes, n)
		}
		tree, err := m.session.SaveTree(m.ctx, &repository.Tree{Nodes: nodes})
		if err != nil {
			return nil, err
		}
		d := m.node(fmt.Sprintf("fonds-%06d", first/filesPerDir), repository.TypeDir, fs.ModeDir|0o755)
		d.Subtree = &tree
		dirs = append(dirs, d)
	}
	return dirs, nil
}

// hugeFile returns one file, most of it zero.
func (m *maker) hugeFile(in input) ([]repository.Node, error) {
	n := m.node("database.img", repository.TypeFile, 0o600)
	zero, _, err := m.session.SaveBlob(m.ctx, repository.DataBlob, make([]byte, chunkBytes))
	if err != nil {
		return nil, err
	}
	b := make([]byte, chunkBytes)
	for i := range in.HugeBytes / chunkBytes {
		id := zero
		if i%dataEvery == 0 {
			if id, err = m.chunk(b); err != nil {
				return nil, err
			}
		}
		n.Content = append(n.Content, id)
		n.SizeBytes += chunkBytes
	}
	return []repository.Node{n}, nil
}
