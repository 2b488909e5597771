package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"dengbei/chunkstore/digest"
)

// Names of the tag files of a bag.
const (
	BagManifestSHA256 = "manifest-sha256.txt"
	BagManifestSM3    = "manifest-sm3.txt"
	BagRecord         = "dengbei/record.json"
	bagDeclaration    = "bagit.txt"
	bagInfoName       = "bag-info.txt"
	bagTagManifest    = "tagmanifest-sha256.txt"
)

// BagInfo is what a bag says about itself besides its files.
type BagInfo struct {
	Submission digest.Digest
	Ordinal    int       // of the record in the submission
	Registrant string    // becomes Source-Organization
	At         time.Time // becomes Bagging-Date, the day in Asia/Shanghai (UTC+8)
	RecordJSON []byte    // content of dengbei/record.json, stored as given
}

// BagDigests are what a certificate commits to.
type BagDigests struct {
	ManifestSHA256 digest.Digest // SHA-256 of manifest-sha256.txt
	ManifestSM3    digest.Digest // SM3 of manifest-sm3.txt
}

// WriteBag makes dir, which holds the payload of rec in data/, a BagIt 1.0 bag (RFC 8493): bagit.txt, bag-info.txt,
// manifest-sha256.txt, manifest-sm3.txt, dengbei/record.json and tagmanifest-sha256.txt. The digests of the files are
// taken from rec and not computed again; names and sizes below data/ must match rec exactly, else a [*RuleError]. The
// same input gives the same bytes, writing it again is not an error, and on nil they survive power loss.
func WriteBag(dir string, rec *Record, info BagInfo) (BagDigests, error) {
	fail := func(err error) (BagDigests, error) { return BagDigests{}, fmt.Errorf("write bag %s: %w", dir, err) }
	if err := rec.validate(info.Ordinal); err != nil {
		return fail(err)
	}
	if err := checkName("registrant", info.Registrant, true); err != nil {
		return fail(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	files := sorted(rec.Files)
	if err := comparePayload(root, files); err != nil {
		return fail(err)
	}
	sha, sm := manifest(files, func(f *File) digest.Digest { return f.SHA256 }), manifest(files, func(f *File) digest.Digest { return f.SM3 })
	tags := []struct {
		name    string
		content []byte
	}{
		{bagInfoName, bagInfo(files, info)},
		{bagDeclaration, []byte("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")},
		{BagRecord, info.RecordJSON},
		{BagManifestSHA256, sha},
		{BagManifestSM3, sm},
	}
	var tagManifest bytes.Buffer
	for _, t := range tags { // in byte order of their names
		fmt.Fprintf(&tagManifest, "%s  %s\n", digest.Of(t.content).Hex(), t.name)
	}
	if err := root.MkdirAll(path.Dir(BagRecord), 0o700); err != nil {
		return fail(err)
	}
	for _, t := range tags {
		if err := replaceSynced(root, t.name, t.content); err != nil {
			return fail(err)
		}
	}
	if err := replaceSynced(root, bagTagManifest, tagManifest.Bytes()); err != nil {
		return fail(err)
	}
	if err := errors.Join(syncDir(root, path.Dir(BagRecord)), syncDir(root, ".")); err != nil {
		return fail(err)
	}
	return BagDigests{ManifestSHA256: digest.Of(sha), ManifestSM3: digest.OfSM3(sm)}, nil
}

// replaceSynced is writeDurable without the folder, which the caller syncs once for all.
func replaceSynced(root *os.Root, name string, b []byte) error {
	tmp := name + ".tmp"
	if err := writeSynced(root, tmp, b); err != nil {
		_ = root.Remove(tmp)
		return err
	}
	if err := root.Rename(tmp, name); err != nil {
		_ = root.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// comparePayload walks data/ and reports the first file that is missing, extra or of another size.
func comparePayload(root *os.Root, files []File) error {
	sizes := make(map[string]int64, len(files))
	for i := range files {
		sizes[files[i].Path] = files[i].SizeBytes
	}
	err := fs.WalkDir(root.FS(), payloadName, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		p = strings.TrimPrefix(p, payloadName+"/")
		size, listed := sizes[p]
		if !listed {
			return &RuleError{Rule: RuleCount, Item: p, What: "lies in the payload but is not described", Way: "report this to the centre's operator: something else writes into the quarantine"}
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() != size {
			return &RuleError{Rule: RuleBytes, Item: p, What: fmt.Sprintf("%d bytes stored, %d described", info.Size(), size), Way: "report this to the centre's operator: the quarantine was changed"}
		}
		delete(sizes, p)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range files {
		if _, left := sizes[files[i].Path]; left {
			return &RuleError{Rule: RuleContent, Item: files[i].Path, What: "is described but not stored", Way: "report this to the centre's operator: the quarantine was changed"}
		}
	}
	return nil
}

// manifest lists files, which are in path order. RFC 8493 2.1.3 wants only LF, CR and % encoded.
func manifest(files []File, of func(*File) digest.Digest) []byte {
	encode := strings.NewReplacer("%", "%25", "\n", "%0A", "\r", "%0D")
	var b bytes.Buffer
	for i := range files {
		fmt.Fprintf(&b, "%s  %s/%s\n", of(&files[i]).Hex(), payloadName, encode.Replace(files[i].Path))
	}
	return b.Bytes()
}

func bagInfo(files []File, info BagInfo) []byte {
	var octets int64
	for i := range files {
		octets += files[i].SizeBytes
	}
	day := info.At.In(time.FixedZone("UTC+8", 8*60*60)).Format(time.DateOnly)
	return fmt.Appendf(nil, "Bagging-Date: %s\nExternal-Identifier: %s/%d\nPayload-Oxum: %d.%d\nSource-Organization: %s\n",
		day, info.Submission.Hex(), info.Ordinal, octets, len(files), info.Registrant)
}
