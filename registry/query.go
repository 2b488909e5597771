package registry

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"dengbei/registry/registrypb"
)

// Applied returns the index of the last Raft entry that was applied.
func (r *Reader) Applied() uint64 { return r.head().applied }

// Size returns the number of leaves in the log: the position of the next record.
func (r *Reader) Size() uint64 { return r.head().size }

// NowMillis returns the registry's time: the latest that any command brought.
func (r *Reader) NowMillis() int64 { return r.head().now }

// Chain returns the running digest over the outcomes of all commands, and the index up to which it goes. Two nodes
// that differ at one index have diverged, even if their logs' roots agree.
func (r *Reader) Chain() (chain [32]byte, index uint64) {
	m := r.head()
	return m.chain, m.applied
}

// at runs f on one moment of the state.
func (r *Reader) at(f func(db pebble.Reader) error) error {
	return r.reading(func() error {
		live, ok := r.db.(*pebble.DB)
		if !ok {
			return f(r.db)
		}
		snap := live.NewSnapshot()
		err := f(snap)
		if closeErr := snap.Close(); err == nil {
			err = closeErr
		}
		return err
	})
}

// Network returns the network's description.
func (r *Reader) Network() (*registrypb.Network, error) {
	return one(r, "network", key(keyNetwork), &registrypb.Network{})
}

// Members returns the active members by code.
func (r *Reader) Members() ([]*registrypb.Member, error) { return r.members(Active) }

// AllMembers returns every member that ever was, by code and serial.
func (r *Reader) AllMembers() ([]*registrypb.Member, error) { return r.members(nil) }

// Voters returns the active members enrolled as voters, by code.
func (r *Reader) Voters() ([]*registrypb.Member, error) {
	return r.members(func(m *registrypb.Member) bool { return Active(m) && m.GetVoter() })
}

// Active reports whether m was not revoked.
func Active(m *registrypb.Member) bool { return m.GetRevokedAtMillis() == 0 }

func (r *Reader) members(keep func(*registrypb.Member) bool) ([]*registrypb.Member, error) {
	return list(r, "members", []byte{keyMember}, func() *registrypb.Member { return &registrypb.Member{} }, keep)
}

// Member returns the active member of a code.
func (r *Reader) Member(code string) (*registrypb.Member, error) {
	m := &registrypb.Member{}
	err := r.at(func(db pebble.Reader) error { return activeMember(db, code, m) })
	if err != nil {
		return nil, fmt.Errorf("active member of %q: %w", code, err)
	}
	return m, nil
}

func activeMember(db pebble.Reader, code string, into *registrypb.Member) error {
	if !validCode(code) {
		return ErrNotFound
	}
	v, err := read(db, key(keyPlace, code))
	if err != nil {
		return err
	}
	serial, active := decodePlace(v)
	if !active {
		return ErrNotFound
	}
	if v, err = read(db, memberKey(code, serial)); err != nil {
		return err
	}
	_, err = decode("member", v, into)
	return err
}

// MemberByServerID returns a member, active or revoked.
func (r *Reader) MemberByServerID(id string) (*registrypb.Member, error) {
	code, serial, err := ParseServerID(id)
	if err != nil {
		return nil, err
	}
	return one(r, "member "+id, memberKey(code, serial), &registrypb.Member{})
}

// Invitation returns what is known of a token, by its SHA-256.
func (r *Reader) Invitation(tokenSHA256 []byte) (*registrypb.Invitation, error) {
	return one(r, "invitation", key(keyInvitation, tokenSHA256), &registrypb.Invitation{})
}

// Registrant returns a registrant by ID.
func (r *Reader) Registrant(id string) (*registrypb.Registrant, error) {
	return one(r, fmt.Sprintf("registrant %q", id), key(keyRegistrant, id), &registrypb.Registrant{})
}

// Registrants returns an authority's registrants by ID; all if authority is empty.
func (r *Reader) Registrants(authority string) ([]*registrypb.Registrant, error) {
	return list(r, "registrants", []byte{keyRegistrant}, func() *registrypb.Registrant { return &registrypb.Registrant{} },
		func(g *registrypb.Registrant) bool { return authority == "" || g.GetAuthority() == authority })
}

// Agreement returns an agreement by ID.
func (r *Reader) Agreement(id string) (*registrypb.Agreement, error) {
	return one(r, fmt.Sprintf("agreement %q", id), key(keyAgreement, id), &registrypb.Agreement{})
}

// Agreements returns the agreements between an owner and a holder, by ID; an empty code stands for all.
func (r *Reader) Agreements(owner, holder string) ([]*registrypb.Agreement, error) {
	return list(r, "agreements", []byte{keyAgreement}, func() *registrypb.Agreement { return &registrypb.Agreement{} },
		func(a *registrypb.Agreement) bool {
			return (owner == "" || a.GetOwner() == owner) && (holder == "" || a.GetHolder() == holder)
		})
}

// Repository returns a repository by ID.
func (r *Reader) Repository(id string) (*registrypb.Repository, error) {
	return one(r, fmt.Sprintf("repository %q", id), key(keyRepository, id), &registrypb.Repository{})
}

// Repositories returns an owner's repositories by ID; all if owner is empty.
func (r *Reader) Repositories(owner string) ([]*registrypb.Repository, error) {
	return list(r, "repositories", key(keyRepository, owner), func() *registrypb.Repository { return &registrypb.Repository{} },
		func(p *registrypb.Repository) bool { return owner == "" || p.GetOwner() == owner })
}

// Manifest returns the manifest of a repository with the given sequence.
func (r *Reader) Manifest(repository string, sequence uint64) (*registrypb.Manifest, error) {
	return one(r, fmt.Sprintf("manifest %d of %s", sequence, repository), manifestKey(repository, sequence), &registrypb.Manifest{})
}

// ManifestByDigest returns a manifest by the digest of its document.
func (r *Reader) ManifestByDigest(digest []byte) (*registrypb.Manifest, error) {
	m := &registrypb.Manifest{}
	err := r.at(func(db pebble.Reader) error {
		at, err := read(db, key(keyDocument, digest))
		if err != nil {
			return err
		}
		sequence, repository := decodeHead(at)
		v, err := read(db, manifestKey(string(repository), sequence))
		if err == nil {
			_, err = decode("manifest", v, m)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("manifest %x: %w", digest, err)
	}
	return m, nil
}

// Head returns the newest manifest of a repository.
func (r *Reader) Head(repository string) (*registrypb.Manifest, error) {
	m := &registrypb.Manifest{}
	err := r.at(func(db pebble.Reader) error {
		head, err := read(db, key(keyHead, repository))
		if err != nil {
			return err
		}
		sequence, _ := decodeHead(head)
		v, err := read(db, manifestKey(repository, sequence))
		if err == nil {
			_, err = decode("manifest", v, m)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("newest manifest of %q: %w", repository, err)
	}
	return m, nil
}

// Manifests returns the manifests of a repository in order, at most limit of them (0 = all) after the given sequence.
func (r *Reader) Manifests(repository string, after uint64, limit int) ([]*registrypb.Manifest, error) {
	if !validID(repository) {
		return nil, nil
	}
	var out []*registrypb.Manifest
	err := r.reading(func() error {
		return scan(r.db, key(keyManifest, repository, byte(0)), manifestKey(repository, after+1), func(_, v []byte) (bool, error) {
			m, err := decode("manifest", v, &registrypb.Manifest{})
			out = append(out, m)
			return limit <= 0 || len(out) < limit, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("manifests of %q: %w", repository, err)
	}
	return out, nil
}

// Receipts returns each holder's newest receipt for a repository, by holder, also of holders that are no members now.
func (r *Reader) Receipts(repository string) ([]*registrypb.Receipt, error) {
	return r.receipts(key(keyReceipt, repository, byte(0)))
}

// ReceiptHistory returns one receipt for every manifest of a repository that a holder gave a receipt for, in order.
func (r *Reader) ReceiptHistory(repository, holder string) ([]*registrypb.Receipt, error) {
	return r.receipts(key(keyHistory, repository, byte(0), holder))
}

func (r *Reader) receipts(prefix []byte) ([]*registrypb.Receipt, error) {
	return list(r, "receipts", prefix, func() *registrypb.Receipt { return &registrypb.Receipt{} }, nil)
}

// OffsiteCopies returns the receipts that prove copies of a record, by holder: the newest of each holder, if it covers
// the record's manifest and the holder is still the member that signed it. A centre that was lost and enrolled again
// counts from its next receipt on.
func (r *Reader) OffsiteCopies(record *registrypb.Record) ([]*registrypb.Receipt, error) {
	if !validID(record.GetRepository()) {
		return nil, nil
	}
	var out []*registrypb.Receipt
	err := r.at(func(db pebble.Reader) error {
		return scan(db, key(keyReceipt, record.GetRepository(), byte(0)), nil, func(_, v []byte) (bool, error) {
			c, err := decode("receipt", v, &registrypb.Receipt{})
			if err != nil || c.GetManifestSequence() < record.GetManifestSequence() {
				return true, err
			}
			place, err := read(db, key(keyPlace, c.GetHolder()))
			if err != nil {
				return false, err
			}
			if serial, active := decodePlace(place); active && serial == c.GetHolderSerial() {
				out = append(out, c)
			}
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("copies of %s: %w", record.GetNumber(), err)
	}
	return out, nil
}

// Escrow returns a centre's escrowed keys.
func (r *Reader) Escrow(code string) (*registrypb.Escrow, error) {
	return one(r, fmt.Sprintf("escrow of %q", code), key(keyEscrow, code), &registrypb.Escrow{})
}
