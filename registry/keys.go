package registry

import (
	"encoding/binary"
	"fmt"
)

// Keys of the state: one byte of kind, then the fields. Numbers are big-endian, codes six digits; a text that is not
// the key's end is followed by a zero byte, which no text holds (see validID). The bytes are durable: add, never
// change or reuse.
const (
	keyMeta       = 'A' // one value: meta
	keyNetwork    = 'B' // one value: Network
	keyInvitation = 'C' // token hash → Invitation
	keyMember     = 'D' // code, serial → Member
	keyPlace      = 'E' // code → serial of the newest member and whether it is active
	keyRegistrant = 'F' // ID → Registrant
	keyAgreement  = 'G' // ID → Agreement
	keyParties    = 'H' // owner, holder → IDs of their agreements
	keyRepository = 'I' // ID → Repository
	keyHead       = 'J' // repository → digest and sequence of its newest manifest
	keyManifest   = 'K' // repository, 0, sequence → Manifest
	keyDocument   = 'L' // manifest digest → sequence, repository
	keyReceipt    = 'M' // repository, 0, holder → its newest Receipt
	keyHistory    = 'N' // repository, 0, holder, manifest sequence → Receipt
	keyCheckpoint = 'O' // size → Checkpoint
	keyEscrow     = 'P' // code → Escrow
	keyCounter    = 'Q' // authority, year → last serial

	keyRecord     = 'a' // seq → Record without the statement's signature
	keyLeaf       = 'b' // seq → leaf
	keyNumber     = 'c' // authority, year, serial → seq
	keySubmission = 'd' // submission ID → outcome
	keyStatement  = 'e' // seq → StatementSignature, signing key
	keyUnsigned   = 'f' // authority, seq → nothing, until the statement is signed
	keyTile       = 'g' // level, n → full tile
	keyEdge       = 'h' // level, slot → index and hash
)

func key(kind byte, parts ...any) []byte {
	b := append(make([]byte, 0, 48), kind)
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, p)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case byte:
			b = append(b, p)
		default:
			panic(fmt.Sprintf("registry: no key encoding for %T", p))
		}
	}
	return b
}

// seqKey is key(kind, seq) for the hot path.
func seqKey(kind byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), kind), seq)
}

func numberKey(n Number) []byte {
	return key(keyNumber, n.Authority, uint16(n.Year), n.Serial)
}

// prefixEnd returns the first key after all that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// meta is the state's head: it is written with every batch.
type meta struct {
	applied    uint64 // index of the last Raft entry
	now        int64  // registry time in milliseconds
	size       uint64 // leaves in the log
	serial     uint64 // last enrolment serial
	checkpoint uint64 // size of the last published checkpoint
	chain      [32]byte
}

const (
	stateFormat = 1
	metaSize    = 1 + 5*8 + 32
)

func (m meta) encode() []byte {
	b := append(make([]byte, 0, metaSize), stateFormat)
	for _, v := range []uint64{m.applied, uint64(m.now), m.size, m.serial, m.checkpoint} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return append(b, m.chain[:]...)
}

func decodeMeta(b []byte) (meta, error) {
	if len(b) > 0 && b[0] > stateFormat {
		return meta{}, fmt.Errorf("state of format %d, this build reads %d, upgrade it: %w", b[0], stateFormat, ErrCorrupt)
	}
	if len(b) != metaSize || b[0] != stateFormat {
		return meta{}, fmt.Errorf("head of the state has %d bytes: %w", len(b), ErrCorrupt)
	}
	word := func(i int) uint64 { return binary.BigEndian.Uint64(b[1+8*i:]) }
	return meta{word(0), int64(word(1)), word(2), word(3), word(4), [32]byte(b[41:])}, nil
}
