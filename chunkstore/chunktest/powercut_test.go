package chunktest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/check"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/prune"
	"dengbei/chunkstore/repair"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/retention"
)

// crashFull, set to "full" in the environment, has every state examined by stock restic too, and every step of making
// the directories of data/ looked at.
const crashFull = "DENGBEI_CRASH"

// resticStates is how many states of each scene stock restic examines otherwise.
const resticStates = 3

// scene is an operation on a repository whose every step is followed by a power cut.
type scene struct {
	t        *testing.T
	root     string // of the recorder
	recorder *chunktest.Recorder
	files    *chunkstore.Files // by way of the recorder
	source   string

	// What was promised, by number of steps.
	begun     int // the repository is there
	mended    int // the repository is sound again, which was damaged before the first step
	first     digest.Digest
	snapshots map[digest.Digest]*span
	passwords map[string]*span

	// next runs again what was cut off, if that is more than a backup.
	next func(repo *repository.Repository) error

	// also says what else is wrong after so many steps.
	also func(repo *repository.Repository, steps int) error

	damaged map[string]bool // files that do not hash to their names, by ID
}

// span is the numbers of steps between which a thing must be there: from when that was promised until somebody began to
// take it away. From gone on, when that was promised, it must not be there.
type span struct{ from, until, gone int }

func (s *span) holds(steps int) bool { return s.from <= steps && steps < s.until }

// always promises from now on.
func (s *scene) always() *span { return &span{s.steps(), never, never} }

// ending notes that what comes next takes the thing away.
func (s *scene) ending(p *span) {
	p.until = s.steps() + 1 // before the first step nothing is taken away
}

const never = 1 << 40

// newScene returns a scene whose repository exists, with a first snapshot.
func newScene(t *testing.T) *scene {
	s := &scene{t: t, source: t.TempDir(), snapshots: make(map[digest.Digest]*span), passwords: make(map[string]*span)}
	files := chunktest.NewFiles(t, chunktest.LazyDisk{})
	_, err := repository.Init(t.Context(), files, chunktest.Password, repository.Options{Scrypt: chunktest.Cheap()})
	chunktest.Must(t, err)
	s.passwords[chunktest.Password] = s.always()
	s.write("first", 3)
	id, err := s.backup(files)
	chunktest.Must(t, err)
	s.first, s.snapshots[id] = id, s.always()
	s.root = files.Dir()
	return s
}

// record begins to write down what is done.
func (s *scene) record() {
	s.recorder = chunktest.NewRecorder(s.t, s.root)
	var err error
	s.files, err = chunkstore.OpenOn(s.recorder, s.root)
	chunktest.Must(s.t, err)
}

// steps returns how many steps were written down.
func (s *scene) steps() int {
	if s.recorder == nil {
		return 0
	}
	return s.recorder.Len()
}

// write makes n files of noise in a directory of the source.
func (s *scene) write(dir string, n int) {
	files := map[string][]byte{dir + "/small.txt": []byte(dir)}
	for i := range n {
		files[fmt.Sprintf("%s/%d", dir, i)] = chunktest.Noise(fmt.Sprint(dir, i), 20_000)
	}
	chunktest.WriteFiles(s.t, s.source, files)
}

func (s *scene) open(files repository.Files) *repository.Repository {
	s.t.Helper()
	repo, err := repository.Open(s.t.Context(), files, chunktest.Password, repository.Options{})
	chunktest.Must(s.t, err)
	return repo
}

// backup stores the source and returns the snapshot.
func (s *scene) backup(files repository.Files) (digest.Digest, error) {
	repo, err := repository.Open(s.t.Context(), files, chunktest.Password, repository.Options{})
	if err != nil {
		return digest.Digest{}, err
	}
	return backupInto(s.t.Context(), repo, s.source)
}

func backupInto(ctx context.Context, repo *repository.Repository, source string) (digest.Digest, error) {
	r, err := archive.Backup(ctx, repo, archive.Options{Roots: []archive.Root{{Path: "/", Source: source}}})
	if err != nil {
		return digest.Digest{}, err
	}
	return r.SnapshotID, nil
}

// recordBackup stores the source by way of the recorder and takes the promise down.
func (s *scene) recordBackup() digest.Digest {
	s.t.Helper()
	id, err := s.backup(s.files)
	chunktest.Must(s.t, err)
	s.snapshots[id] = s.always()
	return id
}

// promised says in a line what must hold after so many steps.
func (s *scene) promised(steps int) string {
	var all []string
	for id, p := range s.snapshots {
		all = append(all, fmt.Sprint(id, p.holds(steps), steps >= p.gone))
	}
	for word, p := range s.passwords {
		all = append(all, fmt.Sprint(word, p.holds(steps), steps >= p.gone))
	}
	slices.Sort(all)
	return fmt.Sprint(all, steps >= s.begun, steps >= s.mended)
}

// crashTally counts what was tried.
type crashTally struct{ points, states, examined, stock, failures int }

// replay cuts the power after every step and examines what is left.
func (s *scene) replay() crashTally {
	s.t.Helper()
	full := os.Getenv(crashFull) == "full"
	n := crashTally{points: s.steps() + 1}
	type key struct {
		state    [sha256.Size]byte
		promised string
	}
	seen := make(map[key]bool)
	var examined []chunktest.Crash
	fail := func(c chunktest.Crash, err error) {
		if n.failures++; n.failures <= 10 {
			s.t.Errorf("%s: %v", c.What, err)
		}
	}
	for c := range s.recorder.Crashes() {
		n.states++
		if !full && strings.Contains(c.What, "(mkdir repo/data/") && c.Steps%37 != 0 {
			continue
		}
		k := key{settled(c).Sum(), s.promised(c.Steps)}
		if seen[k] {
			continue
		}
		seen[k] = true
		n.examined++
		if err := s.examine(c); err != nil {
			fail(c, err)
		} else if c.Steps >= max(s.begun, s.mended) {
			examined = append(examined, c)
		}
	}
	if _, err := exec.LookPath("restic"); err != nil {
		s.t.Log("stock restic is not installed: reading by a foreign program is NOT checked")
		return n
	}
	for i, c := range examined {
		if !full && i*resticStates/len(examined) == (i-1)*resticStates/len(examined) && i > 0 {
			continue
		}
		n.stock++
		if err := s.stockCheck(c); err != nil {
			fail(c, err)
		}
	}
	return n
}

// stockCheck has stock restic examine a state with the passwords that must open it.
func (s *scene) stockCheck(c chunktest.Crash) error {
	dir := s.place(c)
	defer os.RemoveAll(dir)
	if s.begun > 0 {
		dir = filepath.Join(dir, "repo")
	}
	return s.eachPassword(c.Steps, func(word string) error {
		if s.passwords[word].gone <= c.Steps {
			return errors.New("removed: not tried") // it would try for long
		}
		cmd := exec.CommandContext(s.t.Context(), "restic", "-r", dir, "--no-cache", "check", "--read-data")
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+word)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("restic check: %w\n%s", err, out)
		}
		return nil
	})
}

// settled returns c without what is only in tmp/: there is much of it, and none of it matters but that it goes.
func settled(c chunktest.Crash) chunktest.Crash {
	files := make(map[string][]byte)
	leftover := false
	for p, b := range c.Files {
		if strings.Contains(p, "tmp/put-") {
			leftover = true
			continue
		}
		files[p] = b
	}
	if leftover {
		files["tmp/put-"] = nil
	}
	c.Files = files
	return c
}

// place writes a state to a directory and returns it.
func (s *scene) place(c chunktest.Crash) string {
	s.t.Helper()
	base := "/dev/shm" // thousands of small directories: the disk is not what is tried here
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "crash")
	chunktest.Must(s.t, err)
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	c.Write(s.t, dir)
	return dir
}

// examine says what is wrong with a state.
func (s *scene) examine(c chunktest.Crash) error {
	for p, b := range c.Files {
		if err := named(p, b); err != nil && !s.damaged[filepath.Base(p)] {
			return err
		}
		if filepath.Base(p) == "README.txt" {
			if whole, err := os.ReadFile(filepath.Join(s.root, p)); err != nil || !bytes.Equal(b, whole) {
				return fmt.Errorf("%s holds %d bytes, not the sheet (%v)", p, len(b), err)
			}
		}
	}
	dir := s.place(c)
	defer os.RemoveAll(dir)
	ctx := s.t.Context()
	if s.begun > 0 {
		dir = filepath.Join(dir, "repo")
		if c.Steps < s.begun {
			return again(ctx, dir, s.source)
		}
	}
	files, err := chunkstore.OpenOn(chunktest.LazyDisk{}, dir)
	if err != nil {
		return err
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp/put-*")); len(left) > 0 {
		return fmt.Errorf("open leaves %q", left)
	}
	repo, err := s.unlock(ctx, files, c.Steps)
	if err != nil {
		return err
	}
	if c.Steps >= s.mended {
		if err := sound(ctx, repo); err != nil {
			return err
		}
	}
	if err := s.kept(ctx, repo, c.Steps); err != nil {
		return err
	}
	if s.next != nil {
		if err := s.next(repo); err != nil {
			return fmt.Errorf("the next run: %w", err)
		}
		if repo, err = s.unlock(ctx, files, c.Steps); err != nil {
			return err
		}
	}
	if _, err := backupInto(ctx, repo, s.source); err != nil {
		return fmt.Errorf("the next backup: %w", err)
	}
	if repo, err = s.unlock(ctx, files, c.Steps); err != nil {
		return fmt.Errorf("after the next backup: %w", err)
	}
	if err := sound(ctx, repo); err != nil {
		return fmt.Errorf("after the next backup: %w", err)
	}
	return s.kept(ctx, repo, c.Steps)
}

// named fails for a file with a final name that is not the hash of its bytes.
func named(p string, b []byte) error {
	base := filepath.Base(p)
	if strings.HasPrefix(p, "tmp/") || len(base) != 64 || base == digest.Of(b).Hex() {
		return nil
	}
	return fmt.Errorf("%s holds bytes of another name, %d of them", p, len(b))
}

// again makes a repository where init was cut off, unless it is there already, and uses it.
func again(ctx context.Context, dir, source string) error {
	files, err := chunkstore.CreateOn(chunktest.LazyDisk{}, dir)
	switch {
	case errors.Is(err, chunkstore.ErrExists):
		files, err = chunkstore.OpenOn(chunktest.LazyDisk{}, dir)
	case err == nil:
		_, err = repository.Init(ctx, files, chunktest.Password, repository.Options{Scrypt: chunktest.Cheap()})
	}
	if err != nil {
		return fmt.Errorf("init again: %w", err)
	}
	repo, err := repository.Open(ctx, files, chunktest.Password, repository.Options{})
	if err != nil {
		return fmt.Errorf("after init again: %w", err)
	}
	if _, err := backupInto(ctx, repo, source); err != nil {
		return fmt.Errorf("backup after init again: %w", err)
	}
	return sound(ctx, repo)
}

// eachPassword does a thing with each password that must open the repository, or with one that can if none must.
func (s *scene) eachPassword(steps int, do func(word string) error) error {
	var others []string
	must := false
	for word, p := range s.passwords {
		if steps >= p.gone {
			if err := do(word); err == nil {
				return fmt.Errorf("password %q, which was removed, still opens the repository", word)
			}
			continue
		}
		if !p.holds(steps) {
			others = append(others, word)
			continue
		}
		must = true
		if err := do(word); err != nil {
			return fmt.Errorf("password %q: %w", word, err)
		}
	}
	if must {
		return nil
	}
	err := errors.New("no password was promised")
	for _, word := range others {
		if err = do(word); err == nil {
			return nil
		}
	}
	return err
}

// unlock opens the repository with all the passwords that must open it.
func (s *scene) unlock(ctx context.Context, files *chunkstore.Files, steps int) (repo *repository.Repository, err error) {
	err = s.eachPassword(steps, func(word string) error {
		opened, err := repository.Open(ctx, files, word, repository.Options{})
		if err == nil {
			repo = opened
		}
		return err
	})
	return repo, err
}

// sound fails if a check of everything finds what is not harmless.
func sound(ctx context.Context, repo *repository.Repository) error {
	found, err := check.Check(ctx, repo, check.Options{ReadData: true})
	if err != nil {
		return err
	}
	for _, f := range found {
		if !f.Harmless {
			err = errors.Join(err, errors.New(f.String()))
		}
	}
	return err
}

// kept fails if a snapshot is gone that was promised, or there that was promised to be gone.
func (s *scene) kept(ctx context.Context, repo *repository.Repository, steps int) error {
	for id, p := range s.snapshots {
		_, err := repo.LoadSnapshot(ctx, id)
		if p.holds(steps) && err != nil {
			return fmt.Errorf("acknowledged snapshot: %w", err)
		}
		if steps >= p.gone && err == nil {
			return fmt.Errorf("snapshot %s is there again, which was removed", id)
		}
	}
	if s.also != nil {
		return s.also(repo, steps)
	}
	return nil
}

// TestPowerCuts replays the write log of each operation up to every step, with what was not synced kept, lost or torn.
// See [chunktest.Recorder.Crashes] for the model.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	var total crashTally
	for _, tt := range []struct {
		name string
		play func(t *testing.T) *scene
	}{
		{"init", playInit},
		{"backup", playBackup},
		{"a backup cut off, then another", playInterrupted},
		{"a backup cut off with a partial snapshot, then another", playPartial},
		{"forget", playForget},
		{"prune", playPrune},
		{"key", playKey},
		{"repair index", playRepairIndex},
		{"repair packs", playRepairPacks},
		{"repair from another copy", playRepairFrom},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.play(t)
			n := s.replay()
			t.Logf("%d crash points, %d states, %d different ones examined, %d by stock restic, %d failures",
				n.points, n.states, n.examined, n.stock, n.failures)
			total.points += n.points
			total.states += n.states
			total.examined += n.examined
			total.stock += n.stock
			total.failures += n.failures
		})
	}
	t.Logf("in all %d crash points, %d states, %d different ones examined, %d by stock restic, %d failures",
		total.points, total.states, total.examined, total.stock, total.failures)
}

func playInit(t *testing.T) *scene {
	s := &scene{t: t, root: t.TempDir(), source: t.TempDir(), passwords: map[string]*span{chunktest.Password: {0, never, never}}}
	s.write("first", 1)
	s.recorder = chunktest.NewRecorder(t, s.root)
	files, err := chunkstore.CreateOn(s.recorder, filepath.Join(s.root, "repo"))
	chunktest.Must(t, err)
	_, err = repository.Init(t.Context(), files, chunktest.Password, repository.Options{Scrypt: chunktest.Cheap()})
	chunktest.Must(t, err)
	s.begun = s.steps()
	return s
}

func playBackup(t *testing.T) *scene {
	s := newScene(t)
	s.record()
	s.write("second", 6)
	s.recordBackup()
	return s
}

func playInterrupted(t *testing.T) *scene {
	s := newScene(t)
	s.record()
	s.write("second", 6)
	// The second pack finds no room, and neither does anything after it.
	var mu sync.Mutex
	commits := 0
	full := &chunktest.Faulty{Files: s.files, Decide: func(c chunktest.Call) chunktest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == chunktest.OpCommit {
			commits++
		}
		if commits > 1 && c.Changes() {
			return chunktest.Fault{Err: chunkstore.ErrFull}
		}
		return chunktest.Fault{}
	}}
	if _, err := s.backup(full); !errors.Is(err, chunkstore.ErrFull) {
		t.Fatalf("backup on a full disk = %v; want ErrFull", err)
	}
	s.write("third", 3)
	s.recordBackup()
	s.recordBackup() // of what is unchanged
	return s
}

func playPartial(t *testing.T) *scene {
	s := newScene(t)
	s.write("second", 6)
	s.record()
	run := func(ctx context.Context, progress func(archive.Progress), partial ...digest.Digest) (digest.Digest, error) {
		r, err := archive.Backup(ctx, s.open(s.files), archive.Options{
			Roots:   []archive.Root{{Path: "/", Source: s.source}},
			Partial: partial, Checkpoint: time.Hour, Progress: progress,
		})
		if r == nil {
			return digest.Digest{}, err
		}
		return r.SnapshotID, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	partial, err := run(ctx, func(p archive.Progress) {
		if p.Files == 4 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || partial.IsZero() {
		t.Fatalf("backup that was cut off = %s, %v; want a partial snapshot and the context's end", partial, err)
	}
	s.snapshots[partial] = s.always()
	from := s.steps()
	s.ending(s.snapshots[partial])
	complete, err := run(t.Context(), nil, partial)
	chunktest.Must(t, err)
	s.snapshots[partial].gone = s.steps()
	s.snapshots[complete] = s.always()
	// The partial one does not go before the complete one is there.
	s.also = func(repo *repository.Repository, steps int) error {
		_, err := repo.LoadSnapshot(t.Context(), complete)
		if _, perr := repo.LoadSnapshot(t.Context(), partial); perr != nil && err != nil && steps >= from {
			return fmt.Errorf("neither the partial snapshot nor the complete one: %w", errors.Join(perr, err))
		}
		return nil
	}
	return s
}

func playForget(t *testing.T) *scene {
	s := newScene(t)
	var ids []digest.Digest
	for _, dir := range []string{"second", "third"} {
		s.write(dir, 1)
		id, err := s.backup(s.filesUnrecorded())
		chunktest.Must(t, err)
		s.snapshots[id] = s.always()
		ids = append(ids, id)
	}
	s.record()
	s.forget(ids...)
	return s
}

// forget removes snapshots and takes the promises down.
func (s *scene) forget(ids ...digest.Digest) {
	s.t.Helper()
	for _, id := range ids {
		s.ending(s.snapshots[id])
	}
	chunktest.Must(s.t, retention.Forget(s.t.Context(), s.open(s.files), ids))
	for _, id := range ids {
		s.snapshots[id].gone = s.steps()
	}
}

// filesUnrecorded is the repository's files before the record begins.
func (s *scene) filesUnrecorded() *chunkstore.Files {
	files, err := chunkstore.OpenOn(chunktest.LazyDisk{}, s.root)
	chunktest.Must(s.t, err)
	return files
}

func playPrune(t *testing.T) *scene {
	s := newScene(t)
	gone := func(path string) { chunktest.Must(t, os.RemoveAll(filepath.Join(s.source, path))) }
	unrecorded := func() digest.Digest {
		id, err := s.backup(s.filesUnrecorded())
		chunktest.Must(t, err)
		s.snapshots[id] = s.always()
		return id
	}
	gone("first/0") // so that packs of the first snapshot are needed in part
	s.write("second", 3)
	second := unrecorded()
	gone("second") // so that packs of the second are not needed at all
	s.write("third", 1)
	unrecorded()
	s.record()

	s.forget(s.first, second)
	now := time.Now()
	run := func(o prune.Options) prune.Report {
		r, err := prune.Run(t.Context(), s.open(s.files), o)
		chunktest.Must(t, err)
		return r
	}
	marked := run(prune.Options{Now: func() time.Time { return now }})
	swept := run(prune.Options{Now: func() time.Time { return now.Add(prune.DefaultGrace) }})
	repacked := run(prune.Options{NoGrace: true, Repack: &prune.Repack{}})
	if marked.Marked.Packs == 0 || swept.Removed.Packs != marked.Marked.Packs || repacked.Repacked.Packs == 0 || repacked.Removed.Packs == 0 {
		t.Fatalf("prune did %+v, then %+v, then %+v; want packs marked, removed, repacked", marked, swept, repacked)
	}
	s.next = func(repo *repository.Repository) error {
		_, err := prune.Run(t.Context(), repo, prune.Options{NoGrace: true})
		return err
	}
	s.write("second", 3) // the next backup needs what is marked or gone
	return s
}

func playKey(t *testing.T) *scene {
	s := newScene(t)
	s.record()
	repo := s.open(s.files)
	o := repository.KeyOptions{Cost: chunktest.Cheap()}
	added, err := repo.AddKey(t.Context(), "second", o)
	chunktest.Must(t, err)
	s.passwords["second"] = s.always()

	s.ending(s.passwords[chunktest.Password])
	_, err = repo.ChangePassword(t.Context(), "third", o)
	chunktest.Must(t, err)
	s.passwords[chunktest.Password].gone = s.steps()
	s.passwords["third"] = s.always()

	s.ending(s.passwords["second"])
	chunktest.Must(t, repo.RemoveKey(t.Context(), added.Name.ID))
	s.passwords["second"].gone = s.steps()
	return s
}

// repairing has the repository mended, with every step recorded. Cut off, it is to be mended by doing the same again.
func (s *scene) repairing(mend func(repo *repository.Repository) error) *scene {
	s.t.Helper()
	if sound(s.t.Context(), s.open(s.filesUnrecorded())) == nil {
		s.t.Fatal("there is nothing to repair")
	}
	s.record()
	chunktest.Must(s.t, mend(s.open(s.files)))
	s.mended = s.steps()
	s.next = mend
	return s
}

func playRepairIndex(t *testing.T) *scene {
	s := newScene(t)
	files := s.filesUnrecorded()
	s.write("second", 3)
	id, err := s.backup(files)
	chunktest.Must(t, err)
	s.snapshots[id] = s.always()
	// One index file is lost, the other cannot be read and so is a third.
	lost := false
	for e, err := range files.List(t.Context(), chunkstore.Index) {
		chunktest.Must(t, err)
		if lost {
			s.damage(files, e.Name, 100)
			continue
		}
		lost = true
		chunktest.Must(t, files.Remove(t.Context(), e.Name))
	}
	junk := []byte("junk")
	chunktest.Must(t, files.PutBytes(t.Context(), chunktest.NameOf(chunkstore.Index, junk), junk))
	return s.repairing(func(repo *repository.Repository) error {
		_, err := repair.Index(t.Context(), repo, repair.IndexOptions{})
		return err
	})
}

// damage flips a bit of a file.
func (s *scene) damage(files *chunkstore.Files, name chunkstore.Name, at int) {
	s.t.Helper()
	chunktest.Rot(s.t, files, name, at)
	if s.damaged == nil {
		s.damaged = make(map[string]bool)
	}
	s.damaged[name.ID.Hex()] = true
	s.damaged[name.Kind.String()+"-"+name.ID.Hex()] = true
}

func playRepairPacks(t *testing.T) *scene {
	s := newScene(t)
	files := s.filesUnrecorded()
	// Packs whose headers are damaged: all that is in them can be saved.
	var damaged []digest.Digest
	for e, err := range files.List(t.Context(), chunkstore.Pack) {
		chunktest.Must(t, err)
		s.damage(files, e.Name, int(e.SizeBytes)-20)
		damaged = append(damaged, e.Name.ID)
	}
	return s.repairing(func(repo *repository.Repository) error {
		for _, id := range damaged {
			_, err := repair.Packs(t.Context(), repo, []digest.Digest{id}, repair.PacksOptions{})
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // done before the power went
				return err
			}
		}
		return nil
	})
}

func playRepairFrom(t *testing.T) *scene {
	s := newScene(t)
	other := chunktest.NewFiles(t, chunktest.LazyDisk{})
	chunktest.Must(t, os.CopyFS(other.Dir()+"/copy", os.DirFS(s.root)))
	other, err := chunkstore.OpenOn(chunktest.LazyDisk{}, other.Dir()+"/copy")
	chunktest.Must(t, err)
	files := s.filesUnrecorded()
	for _, k := range []chunkstore.Kind{chunkstore.Snapshot, chunkstore.Index, chunkstore.Pack} {
		n := 0
		for e, err := range files.List(t.Context(), k) {
			chunktest.Must(t, err)
			if n++; k == chunkstore.Pack && n == 1 {
				chunktest.Must(t, files.Remove(t.Context(), e.Name))
			} else {
				s.damage(files, e.Name, int(e.SizeBytes)/2)
			}
		}
	}
	s.snapshots = nil // the only one is damaged
	s.repairing(func(repo *repository.Repository) error {
		_, err := repair.From(t.Context(), repo, other, repair.FromOptions{ReadData: true})
		return err
	})
	s.snapshots = map[digest.Digest]*span{s.first: s.always()}
	return s
}
