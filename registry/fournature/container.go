package fournature

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"io"
	"strconv"
)

// Limits of a ZIP container that is opened to recognise its format.
const (
	maxZipDirectoryBytes = 8 << 20   // the directory is held in memory several times over
	maxEntryBytes        = 256 << 20 // above it, and above maxEntryRatio, an entry counts as a bomb
	maxEntryRatio        = 200
	maxUnpackedBytes     = 1 << 30 // above it, and above maxEntryRatio, a whole container counts as one
	maxOFDRootBytes      = 64 << 10
)

func isZip(head []byte) bool { return bytes.HasPrefix(head, []byte("PK\x03\x04")) }

// isOLE reports the compound file format of older office programs.
func isOLE(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1})
}

// problem is a finding about one file, without its place.
type problem struct {
	item   string
	code   string
	result Result
	params map[string]string
}

// openZip opens the container behind w unless it is too dangerous to open or not complete.
func openZip(w *window) (*zip.Reader, *problem) {
	start, found := zipDirectoryStart(w)
	if !found {
		return nil, damaged("no central directory at the end of the ZIP container")
	}
	if w.size-start > maxZipDirectoryBytes+1<<16 {
		return nil, &problem{item: "3-3", code: "container_too_large", result: Warn}
	}
	z, err := zip.NewReader(w, w.size)
	if err != nil {
		return nil, damaged("the ZIP container's directory cannot be read")
	}
	bomb := func(entry string, unpacked uint64) *problem {
		return &problem{item: "3-3", code: "container_bomb", result: Warn, params: map[string]string{"entry": strconv.Quote(clip(entry)), "size": strconv.FormatUint(unpacked, 10)}}
	}
	var packed, unpacked uint64
	for _, f := range z.File {
		if f.UncompressedSize64 > maxEntryBytes && f.UncompressedSize64/max(f.CompressedSize64, 1) > maxEntryRatio {
			return nil, bomb(f.Name, f.UncompressedSize64)
		}
		if f.CompressedSize64 > uint64(w.size)-packed { // before the sums, so that they cannot overflow
			return nil, damaged("entries of the ZIP container overlap")
		}
		packed += f.CompressedSize64
		if unpacked += min(f.UncompressedSize64, 1<<40); unpacked > maxUnpackedBytes && unpacked/uint64(w.size) > maxEntryRatio {
			return nil, bomb(f.Name, unpacked)
		}
	}
	return z, nil
}

// zipDirectoryStart returns the lowest offset at which a reader may start to read directory headers. A reader goes on
// as long as headers follow each other, whatever count the file claims, so what lies after it bounds the memory.
func zipDirectoryStart(w *window) (int64, bool) {
	const recordLen = 22 // APPNOTE 4.3.16
	l := int(min(w.size, recordLen+1<<16))
	b, _ := w.EofSlice(0, l)
	for i := len(b) - recordLen; i >= 0; i-- {
		if !bytes.HasPrefix(b[i:], []byte("PK\x05\x06")) || i+recordLen+int(binary.LittleEndian.Uint16(b[i+20:])) > len(b) {
			continue
		}
		at := w.size - int64(len(b)-i)
		size, offset := int64(binary.LittleEndian.Uint32(b[i+12:])), int64(binary.LittleEndian.Uint32(b[i+16:]))
		if s, o, ok := zip64Directory(w, at); ok {
			size, offset = s, o
		}
		return max(0, min(at-size, offset)), true
	}
	return 0, false
}

// zip64Directory returns size and offset of the directory if a ZIP64 locator stands before the record at (4.3.14-15).
func zip64Directory(w *window, at int64) (size, offset int64, ok bool) {
	loc := make([]byte, 20)
	if at < 20 {
		return 0, 0, false
	}
	if n, _ := w.ReadAt(loc, at-20); n < 20 || !bytes.HasPrefix(loc, []byte("PK\x06\x07")) {
		return 0, 0, false
	}
	rec := make([]byte, 56)
	pos := int64(binary.LittleEndian.Uint64(loc[8:]))
	if n, _ := w.ReadAt(rec, pos); n < 56 || !bytes.HasPrefix(rec, []byte("PK\x06\x06")) {
		return 0, 0, false
	}
	size, offset = int64(binary.LittleEndian.Uint64(rec[40:])), int64(binary.LittleEndian.Uint64(rec[48:]))
	return max(size, 0), max(offset, 0), true
}

// recogniseOFD reports an OFD document (GB/T 33190), which PRONOM does not list: a ZIP container with OFD.xml, whose
// root is OFD in its namespace.
func recogniseOFD(z *zip.Reader) (FileFormat, bool) {
	for _, f := range z.File {
		if f.Name != "OFD.xml" {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return FileFormat{}, false
		}
		defer r.Close()
		dec := xml.NewDecoder(io.LimitReader(r, maxOFDRootBytes))
		for {
			t, err := dec.Token()
			if err != nil {
				return FileFormat{}, false
			}
			root, ok := t.(xml.StartElement)
			if !ok {
				continue
			}
			if root.Name.Local != "OFD" || root.Name.Space != "http://www.ofdspec.org/2016" {
				return FileFormat{}, false
			}
			format := FileFormat{Registry: "dengbei", ID: "ofd", Name: "Open Fixed-layout Document (GB/T 33190)", MIME: "application/ofd", Basis: "container name OFD.xml with root element OFD"}
			for _, a := range root.Attr {
				if a.Name.Local == "Version" {
					format.Version = clip(a.Value)
				}
			}
			return format, true
		}
	}
	return FileFormat{}, false
}

func damaged(what string) *problem {
	return &problem{item: "3-4", code: "structure_damaged", result: Warn, params: map[string]string{"problem": what}}
}

// clip keeps a hostile string from filling a report.
func clip(s string) string {
	if len(s) > 256 {
		return s[:256] + "..."
	}
	return s
}
