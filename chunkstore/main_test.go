package chunkstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// receiveChild, set in the environment, makes the test binary receive half a file into the repository it names and then
// wait to be killed.
const receiveChild = "CHUNKSTORE_TEST_RECEIVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(receiveChild); dir != "" {
		receiveHalf(dir)
	}
	goleak.VerifyTestMain(m)
}

func receiveHalf(dir string) {
	var in *Incoming
	var s Staged
	f, err := Open(dir)
	if err == nil {
		content := sample()
		if in, err = f.Receive(packOf(content), int64(len(content))); err == nil {
			if _, err = in.Write(content[:len(content)/2]); err == nil {
				// A staged file that the kill leaves behind.
				if s, err = f.Stage(Pack); err == nil {
					_, err = s.Write(content)
				}
			}
		}
	}
	fmt.Println("half", err)
	<-time.After(time.Hour)
	runtime.KeepAlive(in) // a file that nothing refers to is closed, and its lock is gone
	runtime.KeepAlive(s)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes a repository directory without the 256 directories of data/, which take most of the time of a test and
// are made as they are needed.
func create(t *testing.T) *Files {
	t.Helper()
	dir := t.TempDir()
	for _, k := range Kinds()[1:] {
		must(t, os.Mkdir(filepath.Join(dir, k.String()), 0o700))
	}
	f, err := Open(dir)
	must(t, err)
	return f
}

// tempFiles lists what lies in tmp/.
func tempFiles(t *testing.T, f *Files) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(f.dir, tmpDir))
	if !errors.Is(err, fs.ErrNotExist) {
		must(t, err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
