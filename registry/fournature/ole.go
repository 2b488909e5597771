package fournature

import "encoding/binary"

// Limits of a compound file that is opened to recognise its format. Office files have some hundred entries.
const (
	maxOLEEntries      = 16384
	maxOLEDifatSectors = 4096 // a file of some 30 GB
)

// Values of MS-CFB 2.1 and 2.6.1.
const (
	oleEndOfChain = 0xFFFFFFFE
	oleStream     = 2
	oleEntryBytes = 128
)

// ole reads just enough of a compound file (MS-CFB) to know that a reader which believes its header and its chains
// will end, and within memory: the header's counts fit the file, chains do not run in circles, and streams together
// are no larger than the file allows.
type ole struct {
	w          *window
	sectorSize uint32
	major      uint16
	difat      []uint32
}

// checkOLE returns why the compound file behind w must not be opened, or nil.
func checkOLE(w *window) *problem {
	h, err := w.Slice(0, 512)
	if err != nil && len(h) < 512 {
		return damaged("a compound file shorter than its header")
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(h[at:]) }
	shift := binary.LittleEndian.Uint16(h[30:])
	if shift != 9 && shift != 12 {
		return damaged("a compound file with an impossible sector size")
	}
	o := &ole{w: w, sectorSize: 1 << shift, major: binary.LittleEndian.Uint16(h[26:])}
	sectors := w.size/int64(o.sectorSize) + 1
	for _, at := range []int{40, 44, 64, 72} { // directory, FAT, mini FAT and DIFAT sectors
		if int64(u32(at)) > sectors {
			return damaged("a compound file that counts more sectors than it has")
		}
	}
	if p := o.readDifat(h[76:512], u32(68), u32(72)); p != nil {
		return p
	}
	miniStart, p := o.checkDirectory(u32(48))
	if p != nil {
		return p
	}
	// The root entry's chain is the mini stream.
	for steps := int64(0); miniStart != oleEndOfChain && u32(60) != oleEndOfChain && u32(64) > 0; steps++ {
		var ok bool
		if miniStart, ok = o.next(miniStart); !ok || steps > sectors {
			return damaged("a compound file whose mini stream has no end")
		}
	}
	return nil
}

// readDifat collects the sectors that hold the FAT.
func (o *ole) readDifat(first []byte, at, count uint32) *problem {
	if count > maxOLEDifatSectors {
		return &problem{item: "3-3", code: "container_too_large", result: Warn}
	}
	for ; len(first) >= 4; first = first[4:] {
		o.difat = append(o.difat, binary.LittleEndian.Uint32(first))
	}
	for range count {
		b, ok := o.sector(at)
		if !ok {
			return damaged("a compound file whose sector table is cut off")
		}
		for ; len(b) > 4; b = b[4:] {
			o.difat = append(o.difat, binary.LittleEndian.Uint32(b))
		}
		at = binary.LittleEndian.Uint32(b)
	}
	return nil
}

// checkDirectory walks the directory and returns where the root's own stream starts.
func (o *ole) checkDirectory(at uint32) (uint32, *problem) {
	var entries int
	var sum int64
	root := uint32(oleEndOfChain)
	for at != oleEndOfChain {
		b, ok := o.sector(at)
		if !ok {
			return 0, damaged("a compound file whose directory is cut off")
		}
		for ; len(b) >= oleEntryBytes; b = b[oleEntryBytes:] {
			if entries == 0 {
				root = binary.LittleEndian.Uint32(b[116:])
			}
			if entries++; entries > maxOLEEntries {
				return 0, &problem{item: "3-3", code: "container_too_large", result: Warn}
			}
			if b[66] != oleStream {
				continue
			}
			size := int64(binary.LittleEndian.Uint32(b[120:]))
			if o.major > 3 {
				size = int64(binary.LittleEndian.Uint64(b[120:]))
			}
			if size < 0 || size > o.w.size || sum+size > 2*o.w.size {
				return 0, damaged("a compound file with streams larger than itself")
			}
			if sum += size; size > maxEntryBytes {
				return 0, &problem{item: "3-3", code: "container_too_large", result: Warn}
			}
		}
		if at, ok = o.next(at); !ok {
			return 0, damaged("a compound file whose directory has no end")
		}
	}
	if entries == 0 {
		return 0, damaged("a compound file without a directory")
	}
	return root, nil
}

// sector returns the content of sector n. The 32-bit arithmetic is that of readers that believe n.
func (o *ole) sector(n uint32) ([]byte, bool) {
	b, err := o.w.Slice(int64((n+1)*o.sectorSize), int(o.sectorSize))
	return b, err == nil && len(b) == int(o.sectorSize)
}

// next follows a chain in the FAT.
func (o *ole) next(n uint32) (uint32, bool) {
	perSector := o.sectorSize / 4
	i := int(n / perSector)
	if i >= len(o.difat) {
		return 0, false
	}
	b, err := o.w.Slice(int64((o.difat[i]+1)*o.sectorSize)+int64(n%perSector*4), 4)
	if err != nil || len(b) < 4 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b), true
}
