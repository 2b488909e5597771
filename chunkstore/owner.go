package chunkstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ownerName is the mark of a repository that a node writes. Stock restic ignores what it does not know in the root.
const ownerName = "node-repository.json"

const ownerText = "A node of the registration-and-backup network writes this repository, and nobody else. Reading it is free. " +
	"To change it, ask the node: what removes anything needs a registered order."

// Owner is the mark of a repository that belongs to a node: there is one writer, the node, and what removes anything needs
// a registered order. A mark stops people's commands, and protects against no one who writes to the disk.
type Owner struct {
	Repository string // its name in the registry
	Centre     string // the centre that it belongs to
	Held       bool   // a copy that another centre's node holds
}

// ownerJSON is the file of the mark.
type ownerJSON struct {
	Note       string `json:"note"`
	Repository string `json:"repository"`
	Centre     string `json:"centre"`
	Held       bool   `json:"held"`
}

// MarkOwned marks the repository directory dir, durably. Marking it again is no error.
func MarkOwned(dir string, o Owner) error {
	text, err := json.MarshalIndent(ownerJSON{ownerText, o.Repository, o.Centre, o.Held}, "", "  ")
	if err != nil {
		return fmt.Errorf("mark repository: %w", err)
	}
	text = append(text, '\n')
	path := filepath.Join(dir, ownerName)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := replaceFile(LocalDisk{}, path, text); err != nil {
		return fmt.Errorf("mark repository: %w", full(err))
	}
	return nil
}

// OwnerOf returns the mark of the repository directory dir. It gives an error matching [fs.ErrNotExist] where there is
// none. A mark that cannot be read is a mark.
func OwnerOf(dir string) (Owner, error) {
	b, err := os.ReadFile(filepath.Join(dir, ownerName))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Owner{}, fmt.Errorf("no mark: %w", err)
		}
		return Owner{}, nil
	}
	var j ownerJSON
	_ = json.Unmarshal(b, &j) // whatever it says, it is there
	return Owner{j.Repository, j.Centre, j.Held}, nil
}

// Refuse gives the [ErrOwned] with which a change by anybody but the node is refused.
func (o Owner) Refuse() error {
	if o.Held {
		return fmt.Errorf("this is a copy of repository %q that a node holds for centre %q: copies change only with their original: %w",
			o.Repository, o.Centre, ErrOwned)
	}
	return fmt.Errorf("repository %q is written by the node of centre %q alone: submit or back up through the node; what removes "+
		"anything needs a registered order: %w", o.Repository, o.Centre, ErrOwned)
}
