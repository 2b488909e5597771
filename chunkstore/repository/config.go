package repository

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/restic/chunker"
)

const version = 2

// maxPolynomialDegree is what the chunker can compute with; the format demands exactly this degree.
const maxPolynomialDegree = 53

// ChunkProfile says how files are cut into chunks. It is a property of the repository. The zero ChunkProfile is none.
type ChunkProfile struct {
	MinBytes    uint `json:"min_bytes"`
	AverageBits int  `json:"average_bits"` // cuts come every 2^AverageBits bytes on average, after MinBytes
	MaxBytes    uint `json:"max_bytes"`
}

// StandardChunks returns restic's own profile, 512 KiB to 8 MiB: chunks are shared with what stock restic writes.
func StandardChunks() ChunkProfile {
	return ChunkProfile{MinBytes: chunker.MinSize, AverageBits: 20, MaxBytes: chunker.MaxSize}
}

// DatabaseChunks returns the profile for database dumps, 32 KiB to 1 MiB: small edits all over a large file add little.
func DatabaseChunks() ChunkProfile {
	return ChunkProfile{MinBytes: 32 << 10, AverageBits: 16, MaxBytes: 1 << 20}
}

func (p ChunkProfile) check() error {
	if p.MinBytes < 4<<10 || p.MaxBytes > chunker.MaxSize || p.MinBytes >= p.MaxBytes || p.AverageBits < 10 || p.AverageBits > 23 {
		return fmt.Errorf("chunk profile min %d, average 2^%d, max %d: %w", p.MinBytes, p.AverageBits, p.MaxBytes, ErrUnreadable)
	}
	return nil
}

// Config is what the config file holds.
type Config struct {
	ID         ID          // random name of the repository
	Polynomial chunker.Pol // irreducible, of degree 53
	Chunks     ChunkProfile
}

// configJSON is the config file. Chunks is our own field, which other programs ignore; it is left out for the standard.
type configJSON struct {
	Version    int           `json:"version"`
	ID         string        `json:"id"`
	Polynomial chunker.Pol   `json:"chunker_polynomial"`
	Chunks     *ChunkProfile `json:"dengbei_chunks,omitempty"`
}

func (c Config) encode() ([]byte, error) {
	j := configJSON{Version: version, ID: c.ID.String(), Polynomial: c.Polynomial}
	if c.Chunks != StandardChunks() {
		j.Chunks = &c.Chunks
	}
	return json.Marshal(j)
}

func decodeConfig(b []byte) (Config, error) {
	var j configJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return Config{}, fmt.Errorf("config: %w: %w", err, ErrUnreadable)
	}
	if j.Version != version {
		return Config{}, fmt.Errorf("config says %d: %w", j.Version, ErrVersion)
	}
	id, err := hex.DecodeString(j.ID)
	if err != nil || len(id) != len(ID{}) {
		return Config{}, fmt.Errorf("config: repository ID %q: %w", j.ID, ErrUnreadable)
	}
	if err := checkPolynomial(j.Polynomial); err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	c := Config{ID: ID(id), Polynomial: j.Polynomial, Chunks: StandardChunks()}
	if j.Chunks != nil {
		c.Chunks = *j.Chunks
	}
	return c, c.Chunks.check()
}

func checkPolynomial(pol chunker.Pol) error {
	if pol.Deg() != maxPolynomialDegree || !pol.Irreducible() {
		return fmt.Errorf("polynomial %s: %w", pol, ErrUnreadable)
	}
	return nil
}
