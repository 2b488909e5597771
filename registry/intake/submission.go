package intake

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dengbei/chunkstore/digest"
)

// Limits of one submission.
const (
	MaxFiles         = 1_000_000 // over all records
	MaxRecords       = 100_000
	MaxElements      = 1_000 // metadata elements of one record
	maxElementsInAll = 1_000_000
	MaxNameBytes     = 512 // registrant, batch, class, element name
	MaxTextBytes     = 64 << 10
	MaxEncodedBytes  = 512 << 20
	// MaxFileBytes keeps every sum of sizes far from overflow; no file system stores more in one file.
	MaxFileBytes = 8 << 50
)

// Submission is one delivery: what a registrant signs and an authority decides on.
type Submission struct {
	Registrant string        // the registrant's identity as enrolled at the centre; required
	Authority  string        // GB/T 2260 code of the authority that decides, six digits
	Batch      string        // the registrant's name for the delivery; may be empty
	Note       string        // free text for the officer; may be empty
	Class      string        // class of records, the centre's vocabulary; may be empty
	Corrects   digest.Digest // ID of a returned submission that this one replaces; zero for none
	Records    []Record      // at least one; the order is part of the content
}

// Record is one package: it gets one number and one certificate.
type Record struct {
	Title    string    // 题名; required
	Opening  string    // opening opinion 开放利用意见: [OpeningOpen], [OpeningControlled] or ""
	Secrecy  string    // GB/T 7156 code; "" means [SecrecyPublic]
	Metadata []Element // elements by their DA/T 46 name; unknown names are kept; order and repetition are content
	Files    []File    // the payload; order is not content
}

// Opening opinions.
const (
	OpeningOpen       = "OPEN"
	OpeningControlled = "CONTROLLED"
)

// Secrecy codes of GB/T 7156-2003. Only the first two may enter this system.
const (
	SecrecyPublic       = "GK" // 公开
	SecrecyRestricted   = "XZ" // 限制
	SecrecySecret       = "MM" // 秘密
	SecrecyConfidential = "JM" // 机密
	SecrecyTop          = "UM" // 绝密
)

// Element is one metadata element of a record.
type Element struct {
	Name  string
	Value string
}

// File is one file of a record as declared by the sender.
type File struct {
	Path      string // slash separated, relative to the payload of its record; see [CheckPath]
	SizeBytes int64
	SHA256    digest.Digest
	SM3       digest.Digest
	ModTime   time.Time // as found at the sender, UTC; zero if unknown; not part of the ID
}

// Totals returns the number of files and their bytes over all records.
func (s *Submission) Totals() (files int, sizeBytes int64) {
	for i := range s.Records {
		for j := range s.Records[i].Files {
			files++
			sizeBytes += s.Records[i].Files[j].SizeBytes
		}
	}
	return files, sizeBytes
}

// Validate reports the first rule s breaks, as a [*RuleError]. It does not judge secrecy; see [CheckSecrecy].
func (s *Submission) Validate() error {
	if err := checkName("registrant", s.Registrant, true); err != nil {
		return err
	}
	if !isRegionCode(s.Authority) {
		return &RuleError{Rule: RuleForm, Item: "authority", What: fmt.Sprintf("%.32q is not a six-digit region code", s.Authority), Way: "give the code of the deciding authority, such as 330102"}
	}
	if err := checkName("batch", s.Batch, false); err != nil {
		return err
	}
	if err := checkName("class", s.Class, false); err != nil {
		return err
	}
	if err := checkText("note", s.Note); err != nil {
		return err
	}
	if !s.Corrects.IsZero() && s.Corrects.Algorithm() != digest.SHA256 {
		return &RuleError{Rule: RuleForm, Item: "corrects", What: "is not a submission ID", Way: "give the ID of the returned submission"}
	}
	if len(s.Records) == 0 || len(s.Records) > MaxRecords {
		return &RuleError{Rule: RuleCount, Item: "records", What: fmt.Sprintf("%d records, allowed are 1 to %d", len(s.Records), MaxRecords), Way: "split the delivery"}
	}
	files, elements := 0, 0
	for i := range s.Records {
		if elements += len(s.Records[i].Metadata); elements > maxElementsInAll {
			return &RuleError{Rule: RuleForm, Item: "metadata", What: fmt.Sprintf("more than %d elements", maxElementsInAll), Way: "split the delivery"}
		}
		if files += len(s.Records[i].Files); files > MaxFiles {
			return &RuleError{Rule: RuleCount, Item: "files", What: fmt.Sprintf("more than %d files", MaxFiles), Way: "split the delivery"}
		}
	}
	for i := range s.Records {
		if err := s.Records[i].validate(i); err != nil {
			return err
		}
	}
	return nil
}

func (r *Record) validate(ordinal int) error {
	item := fmt.Sprintf("record %d", ordinal)
	if err := checkName(item+" title", r.Title, true); err != nil {
		return err
	}
	switch r.Opening {
	case "", OpeningOpen, OpeningControlled:
	default:
		return &RuleError{Rule: RuleForm, Item: item + " opening", What: fmt.Sprintf("unknown opinion %.32q", r.Opening), Way: "give OPEN, CONTROLLED or nothing"}
	}
	switch r.Secrecy {
	case "", SecrecyPublic, SecrecyRestricted, SecrecySecret, SecrecyConfidential, SecrecyTop:
	default:
		return &RuleError{Rule: RuleForm, Item: item + " secrecy", What: fmt.Sprintf("unknown code %.32q", r.Secrecy), Way: "give GK or XZ"}
	}
	if len(r.Metadata) > MaxElements {
		return &RuleError{Rule: RuleForm, Item: item + " metadata", What: fmt.Sprintf("%d elements, the limit is %d", len(r.Metadata), MaxElements), Way: "move bulk metadata into a file of the record"}
	}
	for _, e := range r.Metadata {
		if err := checkName(item+" metadata element", e.Name, true); err != nil {
			return err
		}
		if err := checkText(item+" metadata "+e.Name, e.Value); err != nil {
			return err
		}
	}
	if len(r.Files) == 0 {
		return &RuleError{Rule: RuleStructure, Item: item, What: "holds no file", Way: "add the record's files or leave the record out"}
	}
	return checkFiles(r.Files)
}

// checkFiles checks every file, and that no two need the same name: neither twice the same path, nor one path as a
// file and as a folder.
func checkFiles(files []File) error {
	paths := make(map[string]struct{}, len(files))
	for i := range files {
		f := &files[i]
		if err := CheckPath(f.Path); err != nil {
			return err
		}
		if f.SizeBytes < 0 || f.SizeBytes > MaxFileBytes {
			return &RuleError{Rule: RuleBytes, Item: f.Path, What: fmt.Sprintf("impossible size %d", f.SizeBytes), Way: "describe the file again"}
		}
		if f.SHA256.Algorithm() != digest.SHA256 || f.SM3.Algorithm() != digest.SM3 {
			return &RuleError{Rule: RuleDigest, Item: f.Path, What: "SHA-256 or SM3 digest is missing", Way: "describe the file again with both digests"}
		}
		if _, twice := paths[f.Path]; twice {
			return pathError(f.Path, "path occurs twice", "name every file once")
		}
		paths[f.Path] = struct{}{}
	}
	dirs := make(map[string]struct{})
	for i := range files {
		dir := files[i].Path
		for {
			cut := strings.LastIndexByte(dir, '/')
			if cut < 0 {
				break
			}
			dir = dir[:cut]
			if _, known := dirs[dir]; known {
				break
			}
			if _, clash := paths[dir]; clash {
				return pathError(dir, "is a file and a folder at once", "rename one of them")
			}
			dirs[dir] = struct{}{}
		}
	}
	return nil
}

// sorted returns files in path order, which is files itself if it is in order already.
func sorted(files []File) []File {
	byPath := func(a, b File) int { return strings.Compare(a.Path, b.Path) }
	if slices.IsSortedFunc(files, byPath) {
		return files
	}
	c := slices.Clone(files)
	slices.SortFunc(c, byPath)
	return c
}

func checkName(item, v string, required bool) error {
	switch {
	case v == "" && required:
		return &RuleError{Rule: RuleForm, Item: item, What: "is empty", Way: "fill it in"}
	case len(v) > MaxNameBytes && !strings.HasSuffix(item, " title"), len(v) > 4*MaxNameBytes:
		return &RuleError{Rule: RuleForm, Item: item, What: fmt.Sprintf("%d bytes long, too long", len(v)), Way: "shorten it"}
	case !utf8.ValidString(v):
		return &RuleError{Rule: RuleForm, Item: item, What: "is not valid UTF-8", Way: "write it in UTF-8"}
	case strings.ContainsFunc(v, unicode.IsControl):
		return &RuleError{Rule: RuleForm, Item: item, What: "contains a control character", Way: "write it on one line without control characters"}
	}
	return nil
}

func checkText(item, v string) error {
	switch {
	case len(v) > MaxTextBytes:
		return &RuleError{Rule: RuleForm, Item: item, What: fmt.Sprintf("%d bytes long, the limit is %d", len(v), MaxTextBytes), Way: "move the text into a file of the record"}
	case !utf8.ValidString(v):
		return &RuleError{Rule: RuleForm, Item: item, What: "is not valid UTF-8", Way: "write it in UTF-8"}
	}
	return nil
}

func isRegionCode(s string) bool {
	return len(s) == 6 && strings.Trim(s, "0123456789") == ""
}
