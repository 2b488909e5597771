package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// opener holds the options that say which repository is meant and how it opens.
type opener struct {
	console *term.Console

	repo, repoFile                string
	passwordFile, passwordCommand string
	masterKeyFile, keyHint        string
	noLock                        bool
	retryLock                     time.Duration
	cacheDir                      string
	noCache                       bool
	compression                   string
	packMiB                       uint
	quiet                         bool
	verbose                       int
}

// flags gives the options to cmd and all below it. restic's variables stand in for them.
func (o *opener) flags(cmd *cobra.Command, c *term.Console) {
	o.console = c
	f := cmd.PersistentFlags()
	f.StringVarP(&o.repo, "repo", "r", "", "directory of the repository (default: $RESTIC_REPOSITORY)")
	f.StringVar(&o.repoFile, "repository-file", "", "`file` that holds the directory of the repository (default: $RESTIC_REPOSITORY_FILE)")
	f.StringVarP(&o.passwordFile, "password-file", "p", "", "`file` that holds the password (default: $RESTIC_PASSWORD_FILE)")
	f.StringVar(&o.passwordCommand, "password-command", "", "`command` that prints the password (default: $RESTIC_PASSWORD_COMMAND)")
	f.StringVar(&o.masterKeyFile, "master-key-file", "", "`file` that holds the master key, in place of a password")
	f.StringVar(&o.keyHint, "key-hint", "", "`ID` of the key to try first (default: $RESTIC_KEY_HINT)")
	f.BoolVar(&o.noLock, "no-lock", false, "read without a lock")
	f.DurationVar(&o.retryLock, "retry-lock", 0, "while others hold the repository, try again for this `duration`")
	f.StringVar(&o.cacheDir, "cache-dir", "", "`directory` below which dengbei/ speeds up opening (default: $RESTIC_CACHE_DIR, or the user's cache)")
	f.BoolVar(&o.noCache, "no-cache", false, "keep nothing beside the repository")
	f.StringVar(&o.compression, "compression", "", "auto, off, fastest, better or max (default: $RESTIC_COMPRESSION, or auto: fastest, and better for new versions of files)")
	f.UintVar(&o.packMiB, "pack-size", 0, "`MiB` at which a pack is finished, 4 to 64 (default 16)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print results only")
	f.CountVarP(&o.verbose, "verbose", "v", "print more; twice for still more")
}

// directory returns the repository's directory.
func (o *opener) directory() (string, error) {
	dir, file := o.repo, o.repoFile
	if dir != "" && file != "" {
		return "", term.Usagef("--repo and --repository-file exclude each other")
	}
	if dir == "" && file == "" {
		dir, file = o.console.Env("RESTIC_REPOSITORY"), o.console.Env("RESTIC_REPOSITORY_FILE")
	}
	if dir == "" && file != "" {
		b, err := readLine(file)
		if err != nil {
			return "", fmt.Errorf("repository file: %w", err)
		}
		dir = b
	}
	if dir == "" {
		return "", term.Usagef("which repository? Give --repo PATH or set RESTIC_REPOSITORY")
	}
	return dir, nil
}

// use says what a command does with the repository.
type use int

const (
	reading   use = iota
	appending     // adds files and removes none
	removing      // removes files: alone
)

// opened is a repository that is open for a command.
type opened struct {
	*repository.Repository
	local *chunkstore.Files
	hangs chan os.Signal
}

// open opens the repository and locks it. [opened.close] must be called. Anything but reading is refused on a node's
// repository.
func (o *opener) open(ctx context.Context, u use, options repository.Options) (*opened, error) {
	dir, err := o.directory()
	if err != nil {
		return nil, err
	}
	if o.noLock && u != reading {
		return nil, term.Usagef("--no-lock is for reading: this command changes the repository")
	}
	if u != reading {
		if err := mayChange(dir); err != nil {
			return nil, err
		}
	}
	options.Lock = repository.LockOptions{Mode: repository.SharedLock, Wait: o.retryLock, Optional: u == reading}
	switch {
	case o.noLock:
		options.Lock = repository.LockOptions{}
	case u == removing:
		options.Lock.Mode = repository.ExclusiveLock
	}
	repo, err := o.openLocked(ctx, dir, options)
	if err != nil {
		return nil, err
	}
	if err := repo.Lock().Missing(); err != nil {
		o.note("reading without a lock: %v", err)
	}
	return repo, nil
}

// openLocked opens the repository in dir with the lock that options ask for.
func (o *opener) openLocked(ctx context.Context, dir string, options repository.Options) (_ *opened, err error) {
	if err := o.complete(&options); err != nil {
		return nil, err
	}
	options.CacheDir = o.cache()
	files, err := chunkstore.Open(dir)
	if err != nil {
		return nil, err
	}
	hangs := make(chan os.Signal, 1)
	// Stock restic's unlock finds out whether the process that a lock names is there by hanging up on it.
	signal.Notify(hangs, syscall.SIGHUP)
	defer func() {
		if err != nil {
			signal.Stop(hangs)
		}
	}()
	var repo *repository.Repository
	if o.masterKeyFile != "" {
		key, kerr := readMasterKey(o.masterKeyFile)
		if kerr != nil {
			return nil, kerr
		}
		repo, err = repository.OpenWithKey(ctx, files, key, options)
	} else {
		password, perr := o.password(ctx)
		if perr != nil {
			return nil, perr
		}
		repo, err = repository.Open(ctx, files, password, options)
	}
	if err != nil {
		return nil, err
	}
	if err := repo.TableErr(); err != nil {
		o.note("the index is kept in memory: %v", err)
	}
	return &opened{repo, files, hangs}, nil
}

// complete adds to options what the command line says of every repository.
func (o *opener) complete(options *repository.Options) error {
	options.CacheDir = o.cache()
	options.KeyHint = o.keyHint
	if options.KeyHint == "" {
		options.KeyHint = o.console.Env("RESTIC_KEY_HINT")
	}
	level := o.compression
	if level == "" {
		level = o.console.Env("RESTIC_COMPRESSION")
	}
	switch level {
	case "": // what the command wants
	case "auto":
		options.Compression = repository.CompressAuto
	case "fastest":
		options.Compression = repository.CompressFast
	case "better", "max":
		options.Compression = repository.CompressBetter
	case "off":
		options.Compression = repository.CompressOff
	default:
		return term.Usagef("--compression %q: want auto, off, fastest, better or max", level)
	}
	if o.packMiB != 0 {
		if o.packMiB < 4 || o.packMiB > 64 {
			return term.Usagef("--pack-size %d: want 4 to 64 MiB", o.packMiB)
		}
		options.PackBytes = int64(o.packMiB) << 20
	}
	return nil
}

// mayChange refuses the repository of a node.
func mayChange(dir string) error {
	owner, err := chunkstore.OwnerOf(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return owner.Refuse()
}

// note tells the person something that is not the result, unless told to be quiet.
func (o *opener) note(format string, args ...any) {
	if !o.quiet {
		o.console.Note(format, args...)
	}
}

// cache returns the directory for what speeds up opening, empty for none. It is one of ours below the cache that is given:
// stock restic may have its own there.
func (o *opener) cache() string {
	if o.noCache {
		return ""
	}
	dir := o.cacheDir
	if dir == "" {
		dir = o.console.Env("RESTIC_CACHE_DIR")
	}
	if dir == "" {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return ""
		}
	}
	return filepath.Join(dir, "dengbei")
}

// close ends the use of the repository.
func (o *opened) close() error {
	defer signal.Stop(o.hangs)
	return o.Lock().Close()
}
