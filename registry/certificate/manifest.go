package certificate

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxManifestLine bounds one line of a manifest in bytes; the longest path of Linux fits three times, encoded.
const maxManifestLine = 64 << 10

// listed is one line of a manifest.
type listed struct {
	path   string
	digest [32]byte
}

// readManifest reads a manifest and compares its own digest with the certificate. A manifest that is missing, changed
// or malformed is a problem; only one that cannot be read is an error.
func readManifest(root *os.Root, a algorithm, v *Verified) ([]listed, *FileProblem, error) {
	info, err := root.Lstat(a.manifest)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := root.Lstat("data"); err != nil {
			return nil, nil, fmt.Errorf("no bag here: want the restored folder that holds manifest-sha256.txt, manifest-sm3.txt and data: %w", fs.ErrNotExist)
		}
		return nil, &FileProblem{Path: a.manifest, Problem: ProblemMissing}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &FileProblem{Path: a.manifest, Problem: ProblemNotRegular, Detail: info.Mode().Type().String()}, nil
	}
	f, err := root.Open(a.manifest)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	h := a.new()
	list, malformed, err := parseManifest(io.TeeReader(f, h))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", a.manifest, err)
	}
	want, _ := v.Value(a.field)
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return nil, &FileProblem{Path: a.manifest, Problem: ProblemManifestChanged, Detail: got + ", registered " + want}, nil
	}
	if malformed != "" {
		return nil, &FileProblem{Path: a.manifest, Problem: ProblemManifestMalformed, Detail: malformed}, nil
	}
	return list, nil, nil
}

// parseManifest reads a BagIt 1.0 payload manifest (RFC 8493, 2.1.3) to its end. malformed names the first line that is
// none; err is of reading only.
func parseManifest(r io.Reader) (list []listed, malformed string, err error) {
	b := bufio.NewReaderSize(r, maxManifestLine)
	for number := 1; ; number++ {
		line, err := b.ReadSlice('\n')
		if len(line) > 0 && malformed == "" {
			l, ok := parseManifestLine(string(line))
			if !ok || errors.Is(err, bufio.ErrBufferFull) {
				malformed = fmt.Sprintf("line %d is not digest, blanks and a path below data/", number)
			} else {
				list = append(list, l)
			}
		}
		switch {
		case err == io.EOF:
			return list, malformed, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, "", err
		}
	}
}

func parseManifestLine(line string) (listed, bool) {
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	at := strings.IndexAny(line, " \t")
	if at != 64 {
		return listed{}, false
	}
	digest, err := hex.DecodeString(line[:at])
	path := decodePath(strings.TrimLeft(line[at:], " \t"))
	if err != nil || !strings.HasPrefix(path, "data/") || !fs.ValidPath(path) || strings.ContainsRune(path, 0) {
		return listed{}, false
	}
	return listed{path: path, digest: [32]byte(digest)}, true
}

// decodePath undoes BagIt's encoding of line feed, carriage return and percent sign; nothing else is encoded.
func decodePath(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	return strings.NewReplacer("%0A", "\n", "%0a", "\n", "%0D", "\r", "%0d", "\r", "%25", "%").Replace(s)
}
