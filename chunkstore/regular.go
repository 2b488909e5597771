package chunkstore

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openRegular opens a file for reading. Anything but a regular file, or a link to one, is not there: a fifo in the place of
// a file would have its reader wait, and a device might never end.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: %s in the place of a file: %w", path, st.Mode().Type(), fs.ErrNotExist)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
