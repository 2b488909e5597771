package archive

import "io"

// source is what is cut into chunks.
type source interface {
	io.Reader

	// zeros returns how many bytes from the place off on are known to be zeros without reading them.
	zeros(off int64) int64

	// seek has the next Read begin at off. It is called only where zeros end.
	seek(off int64)
}

// streamSource is a source of unknown length.
type streamSource struct{ io.Reader }

func (streamSource) zeros(int64) int64 { return 0 }
func (streamSource) seek(int64)        {}

// fileSource is a file of the size that it had when it was opened. What was added since is not read.
type fileSource struct {
	file   *openedFile
	size   int64
	sparse bool // holes are looked for

	at       int64
	from, to int64 // the stretch that was looked at last
	hole     bool  // it is a hole
}

// stretch finds the hole or the data around off.
func (s *fileSource) stretch(off int64) {
	if s.from <= off && off < s.to {
		return
	}
	data := s.file.dataFrom(off, s.size)
	s.from, s.to, s.hole = off, data, data > off
	if !s.hole {
		s.to = s.file.holeFrom(off, s.size)
	}
}

func (s *fileSource) zeros(off int64) int64 {
	if !s.sparse || off >= s.size {
		return 0
	}
	s.stretch(off)
	if !s.hole {
		return 0
	}
	return s.to - off
}

func (s *fileSource) seek(off int64) { s.at = off }

// Read implements [io.Reader]. Holes are not read.
func (s *fileSource) Read(b []byte) (int, error) {
	b = b[:min(int64(len(b)), s.size-s.at)]
	if len(b) == 0 {
		return 0, io.EOF
	}
	if s.sparse {
		s.stretch(s.at)
		b = b[:min(int64(len(b)), s.to-s.at)]
		if s.hole {
			clear(b)
			s.at += int64(len(b))
			return len(b), nil
		}
	}
	n, err := s.file.readAt(b, s.at)
	s.at += int64(n)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}
