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
	path := filepath.Join(dir, sheetName)
	f, err := disk.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("write restore sheet: %w", err)
	}
	_, err = f.Write(sheet)
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
		return fmt.Errorf("write restore sheet: %w", full(err))
	}
	return disk.SyncDir(dir)
}
