package prune

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math/bits"

	"dengbei/chunkstore/repository"
)

// set holds blobs, each with a byte of notes, in 13 bytes apiece: of a blob it keeps 96 bits hashed under two secret seeds.
// Of 10^7 blobs two share them with a probability of 10^-15, whoever chose the blobs.
type set struct {
	high, low maphash.Seed
	keys      [][12]byte // zero where free
	notes     []byte
	count     int
}

// newSet makes room for as many blobs; more may come.
func newSet(blobs int) *set {
	slots := blobs/7*8 + 1<<10
	return &set{high: maphash.MakeSeed(), low: maphash.MakeSeed(), keys: make([][12]byte, slots), notes: make([]byte, slots)}
}

func (s *set) key(typ repository.BlobType, id *repository.ID) [12]byte {
	var text [33]byte
	text[0] = byte(typ)
	copy(text[1:], id[:])
	var k [12]byte
	binary.LittleEndian.PutUint64(k[:8], maphash.Bytes(s.high, text[:]))
	binary.LittleEndian.PutUint32(k[8:], uint32(maphash.Bytes(s.low, text[:]))|1) // never all zero
	return k
}

// slot returns where k is, or the free place where it would be.
func (s *set) slot(k [12]byte) int {
	at, _ := bits.Mul64(binary.LittleEndian.Uint64(k[:8]), uint64(len(s.keys)))
	i := int(at)
	for s.keys[i] != [12]byte{} && s.keys[i] != k {
		if i++; i == len(s.keys) {
			i = 0
		}
	}
	return i
}

// add reports whether the blob is new.
func (s *set) add(typ repository.BlobType, id *repository.ID) bool {
	if s.count*8 >= len(s.keys)*7 {
		s.grow()
	}
	k := s.key(typ, id)
	i := s.slot(k)
	if s.keys[i] == k {
		return false
	}
	s.keys[i] = k
	s.count++
	return true
}

// note returns the note of a blob, nil if it is not in the set. It is good until the next add.
func (s *set) note(typ repository.BlobType, id *repository.ID) *byte {
	i := s.slot(s.key(typ, id))
	if s.keys[i] == [12]byte{} {
		return nil
	}
	return &s.notes[i]
}

func (s *set) grow() {
	keys, notes := s.keys, s.notes
	s.keys, s.notes = make([][12]byte, len(keys)/2*3), make([]byte, len(keys)/2*3)
	for i, k := range keys {
		if k != [12]byte{} {
			j := s.slot(k)
			s.keys[j], s.notes[j] = k, notes[i]
		}
	}
}

// all yields the notes of all blobs.
func (s *set) all() iter.Seq[*byte] {
	return func(yield func(*byte) bool) {
		for i, k := range s.keys {
			if k != [12]byte{} && !yield(&s.notes[i]) {
				return
			}
		}
	}
}
