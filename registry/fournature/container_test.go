package fournature

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// zipped makes a container of the given entries.
func zipped(t testing.TB, entries map[string]io.Reader) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, r := range entries {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// recognised runs the recogniser over b as an inspection does, and returns the ID and the codes.
func recognised(t testing.TB, name string, b []byte) (string, []string) {
	t.Helper()
	c := new(capture)
	c.Write(b)
	format, problems := sharedFormats().recognise(name, c, bytes.NewReader(b))
	var codes []string
	for _, p := range problems {
		codes = append(codes, p.code)
	}
	return format.ID, codes
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestContainers(t *testing.T) {
	bomb := zipped(t, map[string]io.Reader{"content.xml": io.LimitReader(zeros{}, 1<<20)})
	binary.LittleEndian.PutUint32(bomb[bytes.Index(bomb, []byte("PK\x01\x02"))+24:], maxEntryBytes+1) // what it would unpack to
	manyHeaders := zipped(t, map[string]io.Reader{"a": bytes.NewReader(nil)})
	// A directory that claims one entry and goes on for long: what counts is where reading starts, not the claim.
	end := bytes.LastIndex(manyHeaders, []byte("PK\x05\x06"))
	header := manyHeaders[bytes.Index(manyHeaders, []byte("PK\x01\x02")):end]
	long := append([]byte(nil), manyHeaders[:end]...)
	long = append(long, bytes.Repeat(header, (maxZipDirectoryBytes+1<<17)/len(header))...)
	long = append(long, manyHeaders[end:]...)
	huge := bytes.Clone(manyHeaders)
	binary.LittleEndian.PutUint32(huge[end+12:], 0xFFFFFFF0) // a directory larger than the file
	binary.LittleEndian.PutUint32(huge[end+16:], 0xFFFFFFF0)
	for name, row := range map[string]struct {
		name  string
		b     []byte
		id    string
		codes string
	}{
		"a plain ZIP":           {"a.zip", zipped(t, map[string]io.Reader{"a.txt": bytes.NewReader([]byte("a"))}), "x-fmt/263", "[]"},
		"a ZIP called OFD":      {"a.ofd", zipped(t, map[string]io.Reader{"a.txt": bytes.NewReader([]byte("a"))}), "x-fmt/263", "[format_extension]"},
		"OFD.xml of another":    {"a.ofd", zipped(t, map[string]io.Reader{"OFD.xml": bytes.NewReader([]byte("<OFD/>"))}), "x-fmt/263", "[format_extension]"},
		"OFD.xml without end":   {"a.ofd", zipped(t, map[string]io.Reader{"OFD.xml": io.LimitReader(zeros{}, 1<<20)}), "x-fmt/263", "[format_extension]"},
		"an OFD":                {"a.OFD", zipped(t, map[string]io.Reader{"OFD.xml": bytes.NewReader([]byte(`<?xml version="1.0"?><o:OFD xmlns:o="http://www.ofdspec.org/2016" Version="1.1"/>`))}), "ofd", "[]"},
		"a bomb":                {"a.odt", bomb, "", "[container_bomb]"},
		"an endless directory":  {"a.zip", long, "", "[container_too_large]"},
		"a directory past all":  {"a.zip", huge, "", "[structure_damaged]"},
		"only the magic number": {"a.zip", []byte("PK\x03\x04"), "", "[structure_damaged]"},
	} {
		t.Run(name, func(t *testing.T) {
			id, codes := recognised(t, row.name, row.b)
			if id != row.id || fmt.Sprint(codes) != row.codes {
				t.Fatalf("recognise = %q, %v; want %q, %s", id, codes, row.id, row.codes)
			}
		})
	}
}

func TestContainerLargerThanTheEdges(t *testing.T) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	add := func(name string, r io.Reader) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = io.Copy(w, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("1", io.LimitReader(zeros{}, 2*edgeBytes))
	add("OFD.xml", bytes.NewReader([]byte(`<o:OFD xmlns:o="http://www.ofdspec.org/2016" Version="1.0"/>`)))
	add("2", io.LimitReader(zeros{}, 2*edgeBytes))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if id, codes := recognised(t, "big.ofd", buf.Bytes()); id != "ofd" || codes != nil {
		t.Fatalf("recognise = %q, %v; want ofd", id, codes)
	}
}

// FuzzRecognise looks for bytes that trip the recogniser, its container readers above all.
func FuzzRecognise(f *testing.F) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join("testdata", e.Name()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.Name(), b[:min(len(b), 40<<10)])
	}
	formats := sharedFormats()
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if len(b) == 0 {
			return
		}
		c := new(capture)
		c.Write(b)
		formats.recognise(name, c, bytes.NewReader(b))
	})
}

func TestHostileCompoundFiles(t *testing.T) {
	doc := sample(t, "lorem-ipsum.doc")
	put := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
	}
	directory := int(binary.LittleEndian.Uint32(doc[48:])+1) * 512
	fat := int(binary.LittleEndian.Uint32(doc[76:])+1) * 512
	for name, change := range map[string]func([]byte){
		"counts two billion directory sectors": put(40, 1<<31),
		"counts two billion mini sectors":      put(64, 1<<31),
		"counts two billion FAT sectors":       put(44, 1<<31),
		"counts two billion DIFAT sectors":     put(72, 1<<31),
		"has sectors of 32 KiB":                func(b []byte) { b[30] = 15 },
		"has no directory":                     put(48, oleEndOfChain),
		"has its directory past the end":       put(48, 1<<20),
		"has a directory that runs in a circle": func(b []byte) {
			at := binary.LittleEndian.Uint32(b[48:])
			binary.LittleEndian.PutUint32(b[fat+int(at)*4:], at)
		},
		"has a mini stream that runs in a circle": func(b []byte) {
			at := binary.LittleEndian.Uint32(b[directory+116:])
			binary.LittleEndian.PutUint32(b[fat+int(at)*4:], at)
		},
		"has a stream of two gigabytes": func(b []byte) {
			for at := directory; at < directory+512; at += oleEntryBytes {
				if b[at+66] == oleStream {
					binary.LittleEndian.PutUint32(b[at+120:], 1<<31)
					return
				}
			}
			t.Fatal("no stream in the first directory sector")
		},
		"ends after its header": nil,
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(doc)
			if change == nil {
				b = b[:512]
			} else {
				change(b)
			}
			id, codes := recognised(t, "a.doc", b)
			if len(codes) != 1 || id != "" || codes[0] != "structure_damaged" && codes[0] != "container_too_large" {
				t.Fatalf("recognise = %q, %v; want it not opened", id, codes)
			}
		})
	}
}

func TestOverlappingEntriesAreNotUnpacked(t *testing.T) {
	// One stored entry, listed often: each listing claims the same bytes.
	one := zipped(t, map[string]io.Reader{"content.xml": bytes.NewReader(bytes.Repeat([]byte("incompressible? "), 4))})
	end, dir := bytes.LastIndex(one, []byte("PK\x05\x06")), bytes.Index(one, []byte("PK\x01\x02"))
	b := append([]byte(nil), one[:dir]...)
	for range 50 {
		header := bytes.Clone(one[dir:end])
		binary.LittleEndian.PutUint32(header[20:], 1000) // compressed size
		b = append(b, header...)
	}
	tail := bytes.Clone(one[end:])
	binary.LittleEndian.PutUint16(tail[8:], 50)
	binary.LittleEndian.PutUint16(tail[10:], 50)
	binary.LittleEndian.PutUint32(tail[12:], uint32(50*(end-dir)))
	if id, codes := recognised(t, "a.odt", append(b, tail...)); id != "" || fmt.Sprint(codes) != "[structure_damaged]" {
		t.Fatalf("recognise = %q, %v; want structure_damaged", id, codes)
	}
}
