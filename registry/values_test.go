package registry

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

func TestNumber(t *testing.T) {
	// The example of ISO 7064 for MOD 11,10.
	if got := checkDigit([]byte("0794")); got != '5' {
		t.Errorf("checkDigit(0794) = %c; want 5", got)
	}
	for _, tt := range []struct {
		give string
		want error
	}{
		{Number{"330102", 2026, 1}.String(), nil},
		{Number{"330102", 2026, 1_234_567}.String(), nil},
		{"330102-2026-000001", ErrNumber},
		{"330102-2026-00001-0", ErrNumber},
		{"330102-2026-0000001-0", ErrNumber},
		{"330102-2026-000000-0", ErrNumber},
		{"33010a-2026-000001-0", ErrNumber},
		{"330102-26-000001-0", ErrNumber},
		{"330102-2026-000001-x", ErrNumber},
		{"330102-2026-+00001-0", ErrNumber},
		{strings.Repeat("9", 100), ErrNumber},
		{"", ErrNumber},
	} {
		n, err := ParseNumber(tt.give)
		if !errors.Is(err, tt.want) || (err == nil && n.String() != tt.give) {
			t.Errorf("ParseNumber(%q) = %v, %v; want error %v", tt.give, n, err, tt.want)
		}
	}
}

func TestNumberCatchesSingleErrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Number{rapid.StringMatching("[0-9]{6}").Draw(t, "code"), rapid.IntRange(1970, 9999).Draw(t, "year"), rapid.Uint64Range(1, 1<<40).Draw(t, "serial")}
		s := n.String()
		if got, err := ParseNumber(s); err != nil || got != n {
			t.Fatalf("ParseNumber(%q) = %v, %v; want %v", s, got, err, n)
		}
		b := []byte(s)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "place")
		if b[i] == '-' {
			return
		}
		b[i] = '0' + (b[i]-'0'+byte(rapid.IntRange(1, 9).Draw(t, "by")))%10
		if _, err := ParseNumber(string(b)); !errors.Is(err, ErrNumber) {
			t.Fatalf("ParseNumber(%q) accepts a wrong digit in %q: %v", b, s, err)
		}
	})
}

func TestDivisions(t *testing.T) {
	for _, tt := range []struct {
		code, name, parent string
		level              Level
		inUse              bool
	}{
		{"330000", "浙江省", "", LevelProvince, true},
		{"330300", "温州市", "330000", LevelCity, true},
		{"330102", "上城区", "330100", LevelCounty, true},
		{"330382", "乐清市", "330300", LevelCounty, true},
		{"330122", "桐庐县", "330100", LevelCounty, true},
		{"330682", "上虞市", "330600", LevelCounty, false},
	} {
		d, err := DivisionOf(tt.code)
		if err != nil || d.Name != tt.name || d.Parent != tt.parent || d.Level != tt.level || d.InUse() != tt.inUse {
			t.Errorf("DivisionOf(%s) = %+v, %v; want %+v", tt.code, d, err, tt)
		}
	}
	for _, code := range []string{"", "330371", "3301", "110000", "33010200"} {
		if _, err := DivisionOf(code); !errors.Is(err, ErrUnknownCode) {
			t.Errorf("DivisionOf(%q): %v; want ErrUnknownCode", code, err)
		}
	}
	count := map[Level]int{}
	for _, d := range Divisions() {
		if d.InUse() {
			count[d.Level]++
		} else if now, err := CurrentDivision(d.Code); err != nil || !now.InUse() {
			t.Errorf("CurrentDivision(%s) = %+v, %v; want one in use", d.Code, now, err)
		}
		if d.Parent != "" {
			if _, err := DivisionOf(d.Parent); err != nil {
				t.Errorf("parent of %s: %v", d.Code, err)
			}
		}
	}
	if count[LevelProvince] != 1 || count[LevelCity] != 11 || count[LevelCounty] != 90 {
		t.Errorf("divisions in use = %v; want 1, 11 and 90", count)
	}
	if !Supervises("330000", "330102") || !Supervises("330100", "330102") || Supervises("330200", "330102") || Supervises("330102", "330102") {
		t.Error("Supervises: want province and own city above a county, and no other")
	}
	for _, bad := range []string{"", "code\n", "h,h,h,h,h,h,h\n33,x,,,,,\n", "h,h,h,h,h,h,h\n330000,x,a,,,,\n", "h,h,h,h,h,h,h\n330000,x,,,soon,,\n"} {
		if bad == "" {
			continue
		}
		if _, err := parseDivisions(bad); err == nil {
			t.Errorf("parseDivisions(%q): no error", bad)
		}
	}
}

func TestCommitmentIsTheLeafsFormat(t *testing.T) {
	l := newLog(t, append(testNetwork(), cmd(started+7, testSubmission("s1", 2, 1)))...)
	rec := must(l.s.RecordBySeq(1))(t)
	open := OpenFields(testOrigin, rec)
	want := [OpenFieldCount]string{testOrigin, rec.GetNumber(), "2026-09-21T22:13:20.007+08:00", shangcheng,
		hex.EncodeToString(digestOf("submission", "s1")) + "/1", "2026-09-21T22:13:19.000+08:00", "STANDARD", rec.GetContent().GetDecisionSignature()}
	if open != want {
		t.Errorf("OpenFields = %q; want %q", open, want)
	}
	var digests [][32]byte // computed field by field, as the format is written down
	for id := range tlog.FieldID(tlog.RegistrationFieldCount) {
		if id.Hidden() {
			digests = append(digests, [32]byte(rec.GetContent().GetHidden()[id-tlog.FieldRegistrant]))
			continue
		}
		salt := must(tlog.Salt(rec.GetContent().GetOpenSeed(), id))(t)
		digests = append(digests, tlog.FieldDigest(id, salt, []byte(open[id])))
	}
	commitment := must(tlog.Commit(digests))(t)
	if leaf := must(l.s.Leaf(1))(t); !bytes.Equal(leaf, tlog.Leaf(tlog.LeafRegistration, commitment)) {
		t.Errorf("Leaf(1) = %x; want the commitment over %d fields", leaf, len(digests))
	}
	rec.GetContent().Hidden = rec.GetContent().Hidden[1:]
	if _, err := Commitment(testOrigin, rec); !errors.Is(err, ErrMalformed) {
		t.Errorf("Commitment with six hidden fields: %v; want ErrMalformed", err)
	}
}

func TestReceiptStatement(t *testing.T) {
	r := testReceipt(1, 3)
	want := "dengbei/receipt/v1\nrepository 330102-standard-1\nmanifest " + hex.EncodeToString(r.Manifest) +
		"\nsequence 1\nholder 330300-3\nset " + hex.EncodeToString(r.SetRoot) + "\nfiles 1\nbytes 1000\nverified 1790000000000\n"
	if got := string(ReceiptStatement(r)); got != want {
		t.Errorf("ReceiptStatement = %q; want %q", got, want)
	}
	registered := change(r, func(r *registrypb.Receipt) { r.RegisteredAtMillis, r.Signature = 5, nil })
	if !bytes.Equal(ReceiptStatement(r), ReceiptStatement(registered)) {
		t.Error("ReceiptStatement depends on signature or registration time")
	}
	forged := change(r, func(r *registrypb.Receipt) { r.Repository = "a\nmanifest b%" })
	if got := string(ReceiptStatement(forged)); !strings.Contains(got, "repository a%0Amanifest b%25\n") {
		t.Errorf("ReceiptStatement of a name with a line feed = %q; want it escaped", got)
	}
}

func TestServerID(t *testing.T) {
	if code, serial, err := ParseServerID(ServerID(wenzhou, 12)); err != nil || code != wenzhou || serial != 12 {
		t.Errorf("ParseServerID(330300-12) = %s, %d, %v", code, serial, err)
	}
	for _, bad := range []string{"", "330300", "330300-", "330300-0", "330300-01", "330300-+1", "33030-1", "330300-1-1"} {
		if _, _, err := ParseServerID(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseServerID(%q): %v; want ErrMalformed", bad, err)
		}
	}
}

func TestRejectsHaveNameAndError(t *testing.T) {
	seen := map[string]bool{}
	for i, r := range rejects {
		if r.name == "" || seen[r.name] || (r.err == nil) != (i == 0) {
			t.Errorf("reject %d = %q, %v; want a name of its own and an error", i, r.name, r.err)
		}
		seen[r.name] = true
	}
	if Reject(999).Err() == nil || Reject(999).String() == "" {
		t.Error("a code of a later build has no error")
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for _, c := range append(testNetwork(), cmd(started, testSubmission("s", 2, 1)), cmd(started, testReceipt(1, 3))) {
		b, err := EncodeEntry(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte{0x0a, 0x03, 0x9a, 0x06, 0x00})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		commands, err := DecodeEntry(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnknownKind) {
				t.Errorf("DecodeEntry: %v; want ErrMalformed or ErrUnknownKind", err)
			}
			return
		}
		if len(commands) == 0 {
			t.Fatal("DecodeEntry returned no command and no error")
		}
		again, err := EncodeEntry(commands...)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeEntry(again)
		if err != nil || len(back) != len(commands) {
			t.Fatalf("DecodeEntry(EncodeEntry) = %d commands, %v; want %d", len(back), err, len(commands))
		}
		for i := range back {
			if !proto.Equal(back[i], commands[i]) {
				t.Errorf("command %d changes when encoded again", i)
			}
		}
	})
}
