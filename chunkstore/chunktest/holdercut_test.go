package chunktest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
)

// TestPowerCutsOfAHolder replays what a holder does: it receives a file in two goes, finds it rotten, moves it aside,
// receives it again, drops the rotten one, and gives up another.
func TestPowerCutsOfAHolder(t *testing.T) {
	files := chunktest.NewFiles(t, chunktest.LazyDisk{})
	b, other := chunktest.Noise("received", 3000), chunktest.Noise("other", 100)
	name, otherName := chunktest.NameOf(chunkstore.Pack, b), chunktest.NameOf(chunkstore.Pack, other)
	chunktest.Must(t, files.PutBytes(t.Context(), otherName, other))
	recorder := chunktest.NewRecorder(t, files.Dir())
	files, err := chunkstore.OpenOn(recorder, files.Dir())
	chunktest.Must(t, err)

	receive := func(until int) {
		t.Helper()
		in, err := files.Receive(name, int64(len(b)))
		chunktest.Must(t, err)
		defer in.Close()
		_, err = in.Write(b[in.Offset():until])
		chunktest.Must(t, err)
		if until == len(b) {
			chunktest.Must(t, in.Commit(t.Context()))
		}
	}
	receive(1000)
	receive(len(b))
	received := recorder.Len()
	aside := recorder.Len() + 1
	chunktest.Must(t, files.Quarantine(name))
	receive(len(b))
	again := recorder.Len()
	drop := recorder.Len() + 1
	chunktest.Must(t, files.DropDamaged(name))
	dropped := recorder.Len()
	give := recorder.Len() + 1
	chunktest.Must(t, files.Remove(t.Context(), otherName))
	gone := recorder.Len()

	// examine says what is wrong with what is left after so many steps.
	examine := func(c chunktest.Crash) error {
		there := make(map[string]bool)
		for p, content := range c.Files {
			if base := filepath.Base(p); len(base) == 64 && base != digest.Of(content).Hex() {
				return fmt.Errorf("%s holds bytes of another name", p)
			}
			there[filepath.Base(p)] = true
		}
		stored, quarantined, kept := there[name.ID.Hex()], there["data-"+name.ID.Hex()], there[otherName.ID.Hex()]
		switch n := c.Steps; {
		case n >= received && n < aside && !stored:
			return errors.New("the received file is lost")
		case n >= aside && n < drop && !stored && !quarantined:
			return errors.New("the file that was to be moved aside is lost")
		case n >= again && !stored:
			return errors.New("the file received again is lost")
		case n >= dropped && quarantined:
			return errors.New("the rotten file is there again")
		case n < give && !kept:
			return errors.New("another file is lost")
		case n >= gone && kept:
			return errors.New("the file that was given up is there again")
		}
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		c.Write(t, dir)
		f, err := chunkstore.OpenOn(chunktest.LazyDisk{}, dir)
		if err != nil || stored {
			return err
		}
		// What was not stored can be received, whatever the cut left of an earlier go; at worst from the beginning.
		for range 2 {
			in, err := f.Receive(name, int64(len(b)))
			if err != nil {
				return err
			}
			if _, err = in.Write(b[in.Offset():]); err == nil {
				err = in.Commit(t.Context())
			}
			if !errors.Is(err, digest.ErrMismatch) {
				return errors.Join(err, in.Close(), f.Verify(t.Context(), name))
			}
		}
		return errors.New("the file cannot be received any more")
	}
	states, failures := 0, 0
	for c := range recorder.Crashes() {
		states++
		if err := examine(c); err != nil {
			failures++
			t.Errorf("%s: %v", c.What, err)
		}
	}
	t.Logf("%d crash points, %d states, %d failures", recorder.Len()+1, states, failures)
}
