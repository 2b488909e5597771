package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"dengbei/node/config"
	"dengbei/node/identity"
	"dengbei/registry/tlog"
)

// keys are the secrets of one centre, each in a file of its own below the data directory. What each is for, and which
// of them are escrowed, is said at the field.
type keys struct {
	dir string

	Receipt   ed25519.PrivateKey // signs acknowledgements and off-site receipts; never escrowed
	Cosigner  *tlog.Cosigner     // signs checkpoints; never escrowed
	Authority string             // note key of the authority: decisions and statements; never escrowed
	GossipKey []byte             // shared by the network's members

	mu      sync.Mutex             // guards sealing
	sealing []*identity.SealingKey // own first, then those recovered from escrow; escrowed
}

func loadKeys(cfg config.Config, origin string) (*keys, error) {
	k := &keys{dir: cfg.Path("keys")}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	var err error
	if k.Receipt, err = identity.LoadOrCreateSigningKey(filepath.Join(k.dir, "receipt.key")); err != nil {
		return nil, fmt.Errorf("receipt key: %w", err)
	}
	cosigner, err := identity.LoadOrCreateSigningKey(filepath.Join(k.dir, "cosigner.key"))
	if err != nil {
		return nil, fmt.Errorf("cosigner key: %w", err)
	}
	if k.Cosigner, err = tlog.NewCosigner(cosignerName(origin, cfg.Centre, cosigner), cosigner); err != nil {
		return nil, fmt.Errorf("cosigner key: %w", err)
	}
	if k.Authority, err = k.authorityKey(origin, cfg.Centre); err != nil {
		return nil, err
	}
	own, err := identity.LoadOrCreateSealingKey(filepath.Join(k.dir, "sealing.key"))
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	k.sealing = []*identity.SealingKey{own}
	recovered, err := filepath.Glob(filepath.Join(k.dir, "sealing-recovered-*.key"))
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	for _, p := range recovered {
		old, err := identity.LoadOrCreateSealingKey(p)
		if err != nil {
			return nil, fmt.Errorf("recovered sealing key: %w", err)
		}
		k.sealing = append(k.sealing, old)
	}
	return k, nil
}

// cosignerName names a cosigner by centre and key, so that a centre that is enrolled again is another cosigner.
func cosignerName(origin, code string, key ed25519.PrivateKey) string {
	pub := key.Public().(ed25519.PublicKey)
	return fmt.Sprintf("%s/%s/%x", origin, code, pub[:4])
}

func (k *keys) authorityKey(origin, code string) (string, error) {
	path := filepath.Join(k.dir, "authority.key")
	b, err := readSecret(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("authority key: %w", err)
	}
	skey, _, err := tlog.GenerateAuthorityKey(origin + "/" + code + "/authority")
	if err != nil {
		return "", fmt.Errorf("authority key: %w", err)
	}
	if err := writeDurable(path, []byte(skey+"\n")); err != nil {
		return "", fmt.Errorf("authority key: %w", err)
	}
	return skey, nil
}

// AuthorityVKey returns the public half of the authority's key.
func (k *keys) AuthorityVKey() (string, error) { return tlog.VerifierKey(k.Authority) }

// Own returns this enrolment's sealing key.
func (k *keys) Own() *identity.SealingKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sealing[0]
}

// Unseal opens what was sealed to this centre, now or before it was lost.
func (k *keys) Unseal(sealed []byte) ([]byte, error) {
	k.mu.Lock()
	all := append([]*identity.SealingKey(nil), k.sealing...)
	k.mu.Unlock()
	var first error
	for _, s := range all {
		b, err := s.Open(sealed)
		if err == nil {
			return b, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// SealingSecrets returns the text of every sealing key, for escrow.
func (k *keys) SealingSecrets() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, s := range k.sealing {
		out = append(out, s.Secret())
	}
	return out
}

// AddRecovered stores sealing keys that came from escrow.
func (k *keys) AddRecovered(secrets []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
next:
	for _, text := range secrets {
		s, err := identity.ParseSealingKey(text)
		if err != nil {
			return fmt.Errorf("recovered sealing key: %w", err)
		}
		for _, have := range k.sealing {
			if have.Secret() == s.Secret() {
				continue next
			}
		}
		path := filepath.Join(k.dir, fmt.Sprintf("sealing-recovered-%d.key", len(k.sealing)))
		if err := writeDurable(path, []byte(s.Secret()+"\n")); err != nil {
			return fmt.Errorf("recovered sealing key: %w", err)
		}
		k.sealing = append(k.sealing, s)
	}
	return nil
}

// LogKey returns the secret key of the transparency log, which only voters have; fs.ErrNotExist otherwise.
func (k *keys) LogKey() (string, error) {
	b, err := readSecret(filepath.Join(k.dir, "log.key"))
	if err != nil {
		return "", fmt.Errorf("log key: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// StoreLogKey keeps the log's key on this voter.
func (k *keys) StoreLogKey(skey string) error {
	return writeDurable(filepath.Join(k.dir, "log.key"), []byte(skey+"\n"))
}

// readSecret reads a file that only this user may read.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: run chmod 0600 on it, and ask who could have read it: %w", path, info.Mode().Perm(), identity.ErrFileMode)
	}
	return os.ReadFile(path)
}

// loadGossipKey returns the network's gossip key.
func loadGossipKey(cfg config.Config) ([]byte, error) {
	b, err := readSecret(cfg.Path("keys", "gossip.key"))
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	return b, nil
}

func newGossipKey() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails since Go 1.24
	return b
}
