package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"dengbei/chunkstore"
	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// fileKinds are the kinds of files by the names that cat uses.
func fileKinds() map[string]chunkstore.Kind {
	return map[string]chunkstore.Kind{
		"snapshot": chunkstore.Snapshot, "index": chunkstore.Index, "key": chunkstore.Key, "lock": chunkstore.Lock, "pack": chunkstore.Pack,
	}
}

func (r *commands) catCommand() *cobra.Command {
	var sel selection
	cmd := &cobra.Command{
		Use:   "cat config|masterkey|snapshot|index|key|lock|pack|blob|tree [ID]",
		Short: "print what a file or blob of the repository holds",
		Long: `Print what a file or blob of the repository holds, decrypted, for a person who looks for a fault.

Files may be named by the beginning of their IDs. A tree may also be named as the snapshot that holds it: latest, or latest:FOLDER.
Blobs and packs come as their bytes: send them to a file. The master key opens the repository without any password: do not show it.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			what, id := args[0], ""
			if len(args) == 2 {
				id = args[1]
			}
			_, isFile := fileKinds()[what]
			switch {
			case what == "config" || what == "masterkey":
				if id != "" {
					return term.Usagef("cat %s takes no ID: there is one only", what)
				}
			case isFile || what == "blob" || what == "tree":
				if id == "" {
					return term.Usagef("cat %s: which one? Give its ID", what)
				}
			default:
				return term.Usagef("cat %q: want config, masterkey, snapshot, index, key, lock, pack, blob or tree", what)
			}
			if what == "lock" {
				r.opener.noLock = true // else it would find its own
			}
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			return r.cat(cmd.Context(), repo.Repository, &sel, what, id)
		}),
	}
	sel.flags(cmd)
	return cmd
}

func (r *commands) cat(ctx context.Context, repo *repository.Repository, sel *selection, what, id string) error {
	switch what {
	case "config":
		return r.catFile(ctx, repo, repo.ConfigName())
	case "masterkey":
		b, err := repo.MasterKey().Encode()
		if err != nil {
			return err
		}
		return r.printJSON(b)
	case "snapshot":
		f, err := sel.one(ctx, repo, id)
		if err != nil {
			return err
		}
		return r.catFile(ctx, repo, f.Snapshot.Name())
	case "blob":
		return r.catBlob(ctx, repo, id, repository.DataBlob, repository.TreeBlob)
	case "tree":
		if _, err := repository.ParseID(id); err == nil {
			return r.catBlob(ctx, repo, id, repository.TreeBlob)
		}
		f, err := sel.one(ctx, repo, id)
		if err != nil {
			return err
		}
		if err := f.Directory(); err != nil {
			return err
		}
		return r.catBlob(ctx, repo, f.Tree.String(), repository.TreeBlob)
	}
	name, err := nameOf(ctx, repo, fileKinds()[what], id)
	if err != nil {
		return err
	}
	return r.catFile(ctx, repo, name)
}

// nameOf returns the file of a kind whose ID begins with prefix.
func nameOf(ctx context.Context, repo *repository.Repository, kind chunkstore.Kind, prefix string) (chunkstore.Name, error) {
	var found []chunkstore.Name
	for e, err := range repo.Files().List(ctx, kind) {
		if err != nil {
			return chunkstore.Name{}, err
		}
		if strings.HasPrefix(e.Name.ID.Hex(), strings.ToLower(prefix)) {
			found = append(found, e.Name)
		}
	}
	switch len(found) {
	case 0:
		return chunkstore.Name{}, fmt.Errorf("%s: no file's ID begins with %q", kind, prefix)
	case 1:
		return found[0], nil
	}
	return chunkstore.Name{}, fmt.Errorf("%s: %q begins the IDs of %d files, %s and %s among them: %w; give more digits", kind, prefix, len(found),
		found[0].ID.Hex()[:16], found[1].ID.Hex()[:16], browse.ErrAmbiguous)
}

// catFile prints a file: packs as they are, anything else as JSON.
func (r *commands) catFile(ctx context.Context, repo *repository.Repository, name chunkstore.Name) error {
	if name.Kind == chunkstore.Pack {
		f, err := repo.Files().Open(ctx, name)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.Copy(r.Out, f); err != nil {
			return fmt.Errorf("print %s: %w", name, err)
		}
		return nil
	}
	b, err := repo.LoadPlain(ctx, name)
	if err != nil {
		return err
	}
	return r.printJSON(b)
}

// printJSON prints JSON indented, with every character escaped that a terminal might obey: whoever wrote the file need not
// have done so.
func (r *commands) printJSON(b []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("no JSON: %w", err)
	}
	_, err := fmt.Fprintf(r.Out, "%s\n", harmless(out.String()))
	return printing(err)
}

// harmless escapes control and format characters in JSON, where they can stand in texts only. The white space between
// values stays.
func harmless(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '\n', c == '\r', c == '\t', !unicode.IsControl(c) && !unicode.Is(unicode.Cf, c):
			b.WriteRune(c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

// catBlob prints a blob of the first type that has one of that ID.
func (r *commands) catBlob(ctx context.Context, repo *repository.Repository, text string, types ...repository.BlobType) error {
	id, err := repository.ParseID(strings.ToLower(text))
	if err != nil {
		return term.Usagef("blob %q: want the 64 digits of an ID", text)
	}
	for _, typ := range types {
		if !repo.Has(typ, id) {
			continue
		}
		b, err := repo.LoadBlob(ctx, typ, id, nil)
		if err != nil {
			return err
		}
		_, err = r.Out.Write(b)
		return printing(err)
	}
	return fmt.Errorf("blob %s: %w", id, repository.ErrNoBlob)
}
