package check

import (
	"hash/maphash"

	"dengbei/chunkstore/repository"
)

// idSet remembers IDs in 17 bytes each, at most twice that with its gaps, and a number from 1 to 255 for each. Half of an
// ID tells it from others: a second one with the same half takes 2^64 attempts to make.
type idSet struct {
	seed  maphash.Seed // nobody can choose IDs that collide in the table
	keys  [][16]byte   // length is a power of two
	marks []uint8      // 0 is empty
	count int
}

func newIDSet() *idSet {
	const start = 1 << 10
	return &idSet{seed: maphash.MakeSeed(), keys: make([][16]byte, start), marks: make([]uint8, start)}
}

// slot returns where id is or would be.
func (s *idSet) slot(key [16]byte) int {
	mask := len(s.keys) - 1
	i := int(maphash.Bytes(s.seed, key[:])) & mask
	for s.marks[i] != 0 && s.keys[i] != key {
		i = (i + 1) & mask
	}
	return i
}

// get returns the number of id, 0 if it has none.
func (s *idSet) get(id repository.ID) uint8 { return s.marks[s.slot([16]byte(id[:16]))] }

// put gives id a number and reports whether it had none.
func (s *idSet) put(id repository.ID, mark uint8) bool {
	if s.count*4 >= len(s.keys)*3 {
		s.grow()
	}
	key := [16]byte(id[:16])
	i := s.slot(key)
	fresh := s.marks[i] == 0
	if fresh {
		s.count++
	}
	s.keys[i], s.marks[i] = key, mark
	return fresh
}

func (s *idSet) grow() {
	keys, marks := s.keys, s.marks
	s.keys, s.marks = make([][16]byte, 2*len(keys)), make([]uint8, 2*len(keys))
	for i, m := range marks {
		if m != 0 {
			at := s.slot(keys[i])
			s.keys[at], s.marks[at] = keys[i], m
		}
	}
}
