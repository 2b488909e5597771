package chunkstore

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

const sheetName = "README.txt"

//go:embed sheet.txt
var sheet []byte

// WriteSheet puts README.txt, the page that tells how to restore with stock restic and without this program, into the
// repository directory dir. It replaces an older one.
func WriteSheet(dir string) error { return writeSheet(LocalDisk{}, dir) }

func writeSheet(disk Disk, dir string) error {
	if err := replaceFile(disk, filepath.Join(dir, sheetName), sheet); err != nil {
		return fmt.Errorf("write restore sheet: %w", full(err))
	}
	return nil
}

// replaceFile writes a file that is not named by its content, durably: path is the old text or the new.
func replaceFile(disk Disk, path string, text []byte) error {
	f, err := disk.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = disk.Rename(path+".tmp", path)
	}
	if err != nil {
		disk.Remove(path + ".tmp")
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}
