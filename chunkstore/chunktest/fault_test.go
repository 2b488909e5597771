package chunktest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// TestBackupOnAFailingStore has each call of a backup fail once, in each of the ways there are. The backup may give up,
// but never damages what is there, never calls a snapshot stored that is not, and never hinders the next.
func TestBackupOnAFailingStore(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	source := t.TempDir()
	files := map[string][]byte{"small": []byte("small")}
	for i := range 5 {
		files[fmt.Sprint(i)] = chunktest.Noise(fmt.Sprint("file", i), 10_000)
	}
	chunktest.WriteFiles(t, source, files)
	open := func(files repository.Files) (*repository.Repository, error) {
		return repository.Open(t.Context(), files, chunktest.Password, repository.Options{})
	}
	backup := func(files repository.Files) (digest.Digest, error) {
		repo, err := open(files)
		if err != nil {
			return digest.Digest{}, err
		}
		return backupInto(t.Context(), repo, source)
	}
	examine := func(store *chunktest.Memory, id digest.Digest) error {
		repo, err := open(store)
		if err != nil {
			return err
		}
		if err := sound(t.Context(), repo); err != nil || id.IsZero() {
			return err
		}
		_, err = repo.LoadSnapshot(t.Context(), id)
		return err
	}
	tried, gaveUp := 0, 0
	for mode, fault := range map[string]chunktest.Fault{
		"refused": {Err: broken}, "torn": {Err: broken, Torn: true}, "done and reported failed": {Err: broken, Done: true},
	} {
		for n, reached := 0, true; reached; n++ {
			store := new(chunktest.Memory)
			_, err := repository.Init(t.Context(), store, chunktest.Password, repository.Options{Scrypt: chunktest.Cheap()})
			chunktest.Must(t, err)
			reached = false
			var call chunktest.Call
			id, err := backup(&chunktest.Faulty{Files: store, Decide: func(c chunktest.Call) chunktest.Fault {
				if c.N != n {
					return chunktest.Fault{}
				}
				call, reached = c, true
				return fault
			}})
			if !reached {
				break
			}
			tried++
			what := fmt.Sprintf("call %d, %s %s, %s", call.N, call.Op, call.Name, mode)
			if err != nil {
				gaveUp++
				if id = (digest.Digest{}); !errors.Is(err, broken) && !errors.Is(err, repository.ErrPassword) {
					t.Errorf("%s: backup = %v; want an error that says why", what, err)
				}
			}
			if err := examine(store, id); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			next, err := backup(store)
			if err == nil {
				err = examine(store, next)
			}
			if err != nil {
				t.Errorf("%s: the next backup: %v", what, err)
			}
		}
	}
	if tried < 30 || gaveUp == 0 {
		t.Errorf("%d calls failed and the backup gave up %d times; want many", tried, gaveUp)
	}
	t.Logf("%d calls failed, the backup gave up %d times", tried, gaveUp)
}

// TestSlowStore has a call hang: the end of the context ends it.
func TestSlowStore(t *testing.T) {
	store := new(chunktest.Memory)
	_, err := repository.Init(t.Context(), store, chunktest.Password, repository.Options{Scrypt: chunktest.Cheap()})
	chunktest.Must(t, err)
	hung := make(chan struct{}, 1)
	slow := &chunktest.Faulty{Files: store, Decide: func(c chunktest.Call) chunktest.Fault {
		if c.Op == chunktest.OpPut && c.Name.Kind == chunkstore.Index {
			hung <- struct{}{}
			return chunktest.Fault{Wait: make(chan struct{})}
		}
		return chunktest.Fault{}
	}}
	repo, err := repository.Open(t.Context(), slow, chunktest.Password, repository.Options{})
	chunktest.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-hung
		cancel()
	}()
	s := repo.NewSession()
	_, _, err = s.SaveBlob(ctx, repository.DataBlob, chunktest.Noise("blob", 1000))
	chunktest.Must(t, err)
	if err := s.Flush(ctx); !errors.Is(err, ctx.Err()) || ctx.Err() == nil {
		t.Errorf("Flush on a store that hangs = %v; want the context's end", err)
	}
}
