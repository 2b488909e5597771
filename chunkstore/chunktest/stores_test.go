package chunktest_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

const small = 512 << 10

// local is the suite of a directory.
func local() chunktest.Suite {
	return chunktest.Suite{
		New:   func(t *testing.T) repository.Files { return chunktest.NewFiles(t, chunkstore.LocalDisk{}) },
		Small: func(t *testing.T) repository.Files { return chunktest.NewFiles(t, &chunktest.SmallDisk{Room: small}) },
		Rot: func(t *testing.T, files repository.Files, name chunkstore.Name) {
			chunktest.Rot(t, files.(*chunkstore.Files), name, 1000)
		},
		Leftovers: func(t *testing.T, files repository.Files) []string {
			left, err := filepath.Glob(filepath.Join(files.(*chunkstore.Files).Dir(), "tmp", "*"))
			chunktest.Must(t, err)
			return left
		},
	}
}

func memory() chunktest.Suite {
	return chunktest.Suite{
		New:   func(*testing.T) repository.Files { return new(chunktest.Memory) },
		Small: func(*testing.T) repository.Files { return &chunktest.Memory{Room: small} },
		Rot: func(t *testing.T, files repository.Files, name chunkstore.Name) {
			chunktest.Must(t, files.(*chunktest.Memory).Rot(name, 1000))
		},
	}
}

// faulty is the suite of a faulty store over memory in which nothing fails.
func faulty() chunktest.Suite {
	over := func(f repository.Files) repository.Files {
		return &chunktest.Faulty{Files: f, Decide: func(chunktest.Call) chunktest.Fault { return chunktest.Fault{} }}
	}
	s := memory()
	return chunktest.Suite{
		New:   func(t *testing.T) repository.Files { return over(s.New(t)) },
		Small: func(t *testing.T) repository.Files { return over(s.Small(t)) },
		Rot: func(t *testing.T, files repository.Files, name chunkstore.Name) {
			s.Rot(t, files.(*chunktest.Faulty).Files, name)
		},
	}
}

func TestStores(t *testing.T) {
	for name, s := range map[string]chunktest.Suite{"local": local(), "memory": memory(), "faulty": faulty()} {
		t.Run(name, func(t *testing.T) { chunktest.TestFiles(t, s) })
	}
}

// A repository needs no more of a store than the suite asks for.
func TestRepositoryInMemory(t *testing.T) {
	files := new(chunktest.Memory)
	_, err := repository.Init(t.Context(), files, chunktest.Password, repository.Options{Scrypt: chunktest.Cheap()})
	chunktest.Must(t, err)
	repo, err := repository.Open(t.Context(), files, chunktest.Password, repository.Options{})
	chunktest.Must(t, err)
	s := repo.NewSession()
	id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, chunktest.Noise("blob", 1000))
	chunktest.Must(t, err)
	chunktest.Must(t, s.Flush(t.Context()))
	chunktest.Must(t, s.Close())
	repo, err = repository.Open(t.Context(), files, chunktest.Password, repository.Options{})
	chunktest.Must(t, err)
	_, err = repo.LoadBlob(t.Context(), repository.DataBlob, id, nil)
	chunktest.Must(t, err)
}

func TestFaults(t *testing.T) {
	broken := errors.New("broken")
	var fault chunktest.Fault
	inner := new(chunktest.Memory)
	files := &chunktest.Faulty{Files: inner, Decide: func(chunktest.Call) chunktest.Fault { return fault }}
	b := chunktest.Noise("faults", 1000)
	name := chunktest.NameOf(chunkstore.Pack, b)
	stored := func() bool { return inner.ReadRange(t.Context(), name, 0, nil) == nil }
	commit := func() error {
		was := fault
		fault = chunktest.Fault{}
		s, err := files.Stage(chunkstore.Pack)
		chunktest.Must(t, err)
		_, err = s.Write(b)
		chunktest.Must(t, err)
		fault = was
		_, err = s.Commit()
		return err
	}
	for _, tt := range []struct {
		name   string
		fault  chunktest.Fault
		stored bool
	}{
		{"refused", chunktest.Fault{Err: broken}, false},
		{"torn", chunktest.Fault{Err: broken, Torn: true}, false},
		{"done and reported failed", chunktest.Fault{Err: broken, Done: true}, true},
	} {
		fault = tt.fault
		if err := commit(); !errors.Is(err, broken) || stored() != tt.stored {
			t.Errorf("%s: Commit() = %v, stored %t; want broken, %t", tt.name, err, stored(), tt.stored)
		}
		if err := files.Remove(t.Context(), name); !errors.Is(err, broken) || stored() {
			t.Errorf("%s: Remove() = %v, stored %t; want broken, not stored", tt.name, err, stored())
		}
	}
	fault = chunktest.Fault{Wait: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := files.Remove(ctx, name); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that is held up = %v; want its context's end", err)
	}
}
