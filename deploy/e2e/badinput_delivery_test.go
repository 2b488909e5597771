package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dengbei/deploy/e2e/network"
	"dengbei/node/nodepb"
)

// badFolders are refused before a byte leaves the unit's machine.
func badFolders(t *testing.T, b *badNetwork) {
	one := func(t *testing.T) string { return folder(t, map[string]string{"正文.txt": "text"}) }
	put := func(t *testing.T, dir, name string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatalf("make %q: %v", name, err)
		}
		return dir
	}
	for _, tt := range []struct {
		name string
		make func(t *testing.T) string
		says []string // rule, item, way out
	}{
		{"missing", func(t *testing.T) string { return filepath.Join(t.TempDir(), "没有") },
			[]string{"rule 1-13 package structure", "没有", "folder does not exist", "check the spelling"}},
		{"empty", func(t *testing.T) string { return t.TempDir() },
			[]string{"rule 1-13 package structure", "folder holds no file", "put the record's files into it"}},
		{"only empty folders", func(t *testing.T) string {
			dir := t.TempDir()
			return put(t, dir, "空", os.Mkdir(filepath.Join(dir, "空"), 0o755))
		}, []string{"rule 1-13 package structure", "folder holds no file", "put the record's files into it"}},
		{"a file for a folder", func(t *testing.T) string { return filepath.Join(one(t), "正文.txt") },
			[]string{"rule 1-13 package structure", "is not a folder", "into a folder of its own"}},
		{"link out of the tree", func(t *testing.T) string {
			dir := one(t)
			return put(t, dir, "link", os.Symlink("../../secret.txt", filepath.Join(dir, "附件.txt")))
		}, []string{"rule X-7 path safety", "附件.txt", `out of the delivery, to "../../secret.txt"`, "replace it by a copy"}},
		{"link to an absolute path", func(t *testing.T) string {
			dir := one(t)
			return put(t, dir, "link", os.Symlink("/etc/passwd", filepath.Join(dir, "附件.txt")))
		}, []string{"rule X-7 path safety", "附件.txt", `absolute path "/etc/passwd"`, "replace it by a copy"}},
		{"folder that is a link out of the tree", func(t *testing.T) string {
			dir := one(t)
			return put(t, dir, "link", os.Symlink("/etc", filepath.Join(dir, "附件")))
		}, []string{"rule X-7 path safety", "附件", `absolute path "/etc"`, "replace it"}},
		{"name in invalid UTF-8", func(t *testing.T) string {
			dir := one(t)
			name := "\xb9\xab\xce\xc4.txt" // 公文 in GB 18030
			return put(t, dir, name, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		}, []string{"rule X-7 path safety", `\xb9\xab\xce\xc4.txt`, "not valid UTF-8", "rename it in UTF-8", "convmv -f gb18030"}},
		{"name with a backslash", func(t *testing.T) string {
			dir := one(t)
			return put(t, dir, `..\x`, os.WriteFile(filepath.Join(dir, `..\x`), nil, 0o644))
		}, []string{"rule X-7 path safety", "contains a backslash", "rename the file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.make(t)
			b.refused(t, func() { b.submit(t, dir).want(t, 1, tt.says...) })
		})
	}
	t.Run("class that would be a path", func(t *testing.T) {
		dir := one(t)
		b.refused(t, func() {
			b.submit(t, dir, "--class", "/../../../x").want(t, 1, "rule 1-3 form", "class", "names no protection class", "give a class of the centre")
		})
	})
	t.Run("file that is written while it is read", func(t *testing.T) {
		dir := folder(t, map[string]string{"写.bin": strings.Repeat("x", 64<<20)})
		f, err := os.OpenFile(filepath.Join(dir, "写.bin"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ctx, stop := context.WithCancel(t.Context())
		written := make(chan error, 1)
		go func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					written <- nil
					return
				case <-tick.C:
				}
				if _, err := f.Write([]byte("more")); err != nil {
					written <- err
					return
				}
			}
		}()
		b.refused(t, func() {
			b.submit(t, dir).want(t, 1, "rule 2-7 content intact", "写.bin", "file changed while it was read", "close the program that writes it")
		})
		stop()
		if err := <-written; err != nil {
			t.Error(err)
		}
	})
	t.Run("unreadable file", func(t *testing.T) { b.unreadable(t, "密.txt", "file cannot be opened") })
	t.Run("unreadable folder", func(t *testing.T) { b.unreadable(t, "密", "folder cannot be opened") })
}

// unreadable hands in a folder as a user who may not read one thing in it.
func (b *badNetwork) unreadable(t *testing.T, name, what string) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become a user who may not read a file")
	}
	shared, err := os.MkdirTemp("", "dengbei-e2e-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(shared); err != nil {
			t.Error(err)
		}
	})
	attr := nobody()
	owner := int(attr.Credential.Uid)
	dir, unit, program := filepath.Join(shared, "folder"), filepath.Join(shared, "unit"), filepath.Join(shared, "dengbei")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.Chmod(shared, 0o755))
	do(os.CopyFS(unit, os.DirFS(b.unit)))
	do(os.CopyFS(dir, os.DirFS(folder(t, map[string]string{"正文.txt": "text", "密.txt": "text", "密/二.txt": "text"}))))
	exe, err := os.ReadFile(b.Programs.Dengbei)
	do(err)
	do(os.WriteFile(program, exe, 0o755))
	do(filepath.WalkDir(unit, func(p string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o600)
		if e.IsDir() {
			mode = 0o700
		}
		if err := os.Chmod(p, mode); err != nil {
			return err
		}
		return os.Chown(p, owner, owner)
	}))
	do(os.Chmod(dir, 0o755))
	do(os.Chmod(filepath.Join(dir, name), 0o000))
	args := []string{"submit", dir, "--node", b.county.Config.Peer.Listen, "--credential", unit}
	b.refused(t, func() {
		b.execute(t, program, attr, args...).want(t, 1, "rule 2-7 content intact", name, what, "grant this account the right to read it")
	})
	// The right that the error names is the way out.
	do(os.Chmod(filepath.Join(dir, name), 0o755))
	b.execute(t, program, attr, args...).want(t, 0, "receipt")
	b.settled(t)
}

// oddNames are accepted, and come back as they were.
func oddNames(t *testing.T, b *badNetwork) {
	long := strings.Repeat("档", 85) // 255 bytes, the most that Linux takes
	if len(long) != 255 {
		t.Fatalf("the long name has %d bytes", len(long))
	}
	dir := folder(t, map[string]string{
		"关于档案登记备份的请示·第三稿（二〇二六）.txt": "中文", "第一行\n第二行.txt": "newline", "附件/\t制表\r.txt": "control", long: "255 bytes", "长/" + long: "",
		"𠮷野家\u202e.txt": "beyond the BMP", "  空格  ": "spaces", "%0A.txt": "percent", "-rf": "option", "CON.txt": "device", "e\u0301.txt": "decomposed", "\u00e9.txt": "composed",
	})
	s := b.handIn(t, dir, "offsite=2")
	if len(s.Submission.Numbers) != 1 {
		t.Fatalf("numbers = %q; want one", s.Submission.Numbers)
	}
	b.restored(t, s.Submission.Numbers[0], dir)
	policy, restored := filepath.Join(t.TempDir(), "policy.txt"), filepath.Join(t.TempDir(), "restored")
	b.dengbei(t, "policy", "get", "--config", b.county.File, "-o", policy).want(t, 0)
	b.dengbei(t, "restore", s.Submission.Numbers[0], "--target", restored, "--policy", policy, "--config", b.county.File).want(t, 0, "every file equals its certificate")
}

// handedInTwice gives the same number again and says so.
func handedInTwice(t *testing.T, b *badNetwork) {
	dir := folder(t, map[string]string{"正文.txt": "once"})
	first := b.handIn(t, dir, "registered")
	before := b.remains(t)
	again := b.handIn(t, dir, "registered")
	if first.Existing || !again.Existing {
		t.Errorf("existing = %t, then %t; want false, then true", first.Existing, again.Existing)
	}
	if len(again.Submission.Numbers) != 1 || again.ID != first.ID || again.Submission.Numbers[0] != first.Submission.Numbers[0] {
		t.Errorf("the second answer is %s %q; want that of the first, %s %q", again.ID, again.Submission.Numbers, first.ID, first.Submission.Numbers)
	}
	b.submit(t, dir).want(t, 0, "handed in before; this is the first answer", first.Submission.Numbers[0])
	if now := b.remains(t); now.numbers != before.numbers || len(now.listed) != len(before.listed) {
		t.Errorf("handed in again: %d numbers, %d submissions; want %d and %d", now.numbers, len(now.listed), before.numbers, len(before.listed))
	}
}

// announced sends an announcement that a file system could not hold, and returns the node's answer.
func (b *badNetwork) announced(t *testing.T, submission, signature []byte, then ...*nodepb.SubmitRequest) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := b.county.Registrant.Client(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.Submissions.Submit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	announcement := &nodepb.SubmitRequest{Part: &nodepb.SubmitRequest_Announcement{Announcement: &nodepb.Announcement{Submission: submission, Signature: signature}}}
	for _, m := range append([]*nodepb.SubmitRequest{announcement}, then...) {
		if err := stream.Send(m); err != nil {
			break // it has answered already
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// badAnnouncements come from a program of somebody's own, not from ours.
func badAnnouncements(t *testing.T, b *badNetwork) {
	const marker = "PLACE.txt"
	parcel := func(t *testing.T, title string) *network.Parcel {
		t.Helper()
		p, err := b.county.Registrant.Pack(title, map[string][]byte{marker: []byte(title)})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tt := range []struct {
		name string
		path string // as it stands in JSON
		says []string
	}{
		{"path with ..", `../../x`, []string{"rule X-7 path safety", `"../../x"`, "without . and .."}},
		{"path with .. inside", `a/../../x`, []string{"rule X-7 path safety", `"a/../../x"`, "without . and .."}},
		{"absolute path", `/etc/passwd`, []string{"rule X-7 path safety", `"/etc/passwd": absolute path`, "relative to the delivery folder"}},
		{"drive", `C:/x`, []string{"rule X-7 path safety", `"C:/x": absolute path`, "relative to the delivery folder"}},
		{"NUL", `a\u0000b`, []string{"rule X-7 path safety", `"a\x00b"`, "NUL byte", "rename the file"}},
		{"256 bytes", strings.Repeat("x", 256), []string{"rule X-7 path safety", "256 bytes, the limit is 255", "shorten the name"}},
		{"backslash", `..\\x`, []string{"rule X-7 path safety", "contains a backslash", "rename the file"}},
		{"empty path", ``, []string{"rule X-7 path safety", "empty path", "give every file a name"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			encoded, signature := parcel(t, tt.name).Announcement()
			changed := bytes.Replace(encoded, []byte(`"`+marker+`"`), []byte(`"`+tt.path+`"`), 1)
			if bytes.Equal(changed, encoded) {
				t.Fatal("the description does not name the file")
			}
			b.refused(t, func() { reason(t, b.announced(t, changed, signature), "RULE", tt.says...) })
		})
	}
	t.Run("invalid UTF-8", func(t *testing.T) {
		encoded, signature := parcel(t, "utf").Announcement()
		changed := bytes.Replace(encoded, []byte(marker), []byte("\xb9\xab.txt"), 1)
		b.refused(t, func() { reason(t, b.announced(t, changed, signature), "MALFORMED_DESCRIPTION") })
	})
	t.Run("no description", func(t *testing.T) {
		b.refused(t, func() { reason(t, b.announced(t, []byte("%PDF-1.7"), nil), "MALFORMED_DESCRIPTION") })
	})
	t.Run("one byte changed after signing", func(t *testing.T) {
		encoded, signature := parcel(t, "sign").Announcement()
		changed := bytes.Replace(encoded, []byte(`"title":"s`), []byte(`"title":"S`), 1)
		b.refused(t, func() { reason(t, b.announced(t, changed, signature), "SIGNATURE") })
	})
	t.Run("of another unit", func(t *testing.T) {
		p, err := b.province.Registrant.Pack("other", map[string][]byte{marker: []byte("text")})
		if err != nil {
			t.Fatal(err)
		}
		encoded, signature := p.Announcement()
		b.refused(t, func() {
			reason(t, b.announced(t, encoded, signature), "DENIED", `registrant "330000/danwei"`, `credential is of "330282/danwei"`)
		})
	})
	t.Run("half a description", func(t *testing.T) {
		client, err := b.county.Registrant.Client(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		encoded, _ := parcel(t, "half").Announcement()
		b.refused(t, func() {
			stream, err := client.Submissions.Submit(t.Context())
			if err == nil {
				err = stream.Send(&nodepb.SubmitRequest{Part: &nodepb.SubmitRequest_Announcement{
					Announcement: &nodepb.Announcement{Submission: encoded[:len(encoded)/2], More: true}}})
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.CloseAndRecv()
			reason(t, err, "INVALID", "the delivery ends before its description does")
		})
	})
	t.Run("files before the announcement", func(t *testing.T) {
		client, err := b.county.Registrant.Client(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.refused(t, func() {
			stream, err := client.Submissions.Submit(t.Context())
			if err == nil {
				err = stream.Send(&nodepb.SubmitRequest{Part: &nodepb.SubmitRequest_File{File: &nodepb.FileData{Data: []byte("x")}}})
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.CloseAndRecv()
			reason(t, err, "INVALID", "a delivery begins with its description")
		})
	})
}

// badContent is other content than was announced and signed.
func badContent(t *testing.T, b *badNetwork) {
	file := func(data string, last bool) *nodepb.SubmitRequest {
		return &nodepb.SubmitRequest{Part: &nodepb.SubmitRequest_File{File: &nodepb.FileData{Data: []byte(data), Last: last}}}
	}
	second := file("more", true)
	second.GetFile().File = 1
	for _, tt := range []struct {
		name   string
		send   []*nodepb.SubmitRequest
		reason string
		says   []string
	}{
		{"other bytes", []*nodepb.SubmitRequest{file("tExt", true)}, "RULE",
			[]string{"rule 1-1a digest", "正文.txt", "declared", "received", "describe the delivery again"}},
		{"longer", []*nodepb.SubmitRequest{file("text and more", true)}, "RULE",
			[]string{"rule 2-2 byte count", "正文.txt", "more bytes received, 4 declared", "describe the delivery again"}},
		{"shorter", []*nodepb.SubmitRequest{file("te", true)}, "RULE",
			[]string{"rule 2-2 byte count", "正文.txt", "2 bytes received, 4 declared", "describe the delivery again"}},
		{"ends in the middle", []*nodepb.SubmitRequest{file("te", false)}, "INVALID", []string{"正文.txt", "ends in the middle", "send it again"}},
		{"no file", nil, "INVALID", []string{"正文.txt", "ends in the middle", "send it again"}},
		{"a file that was not announced", []*nodepb.SubmitRequest{file("text", true), second}, "INVALID", []string{"more files than announced"}},
		{"files in another order", []*nodepb.SubmitRequest{second}, "INVALID", []string{"in the order of the description"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := b.county.Registrant.Pack(tt.name, map[string][]byte{"正文.txt": []byte("text")})
			if err != nil {
				t.Fatal(err)
			}
			encoded, signature := p.Announcement()
			b.refused(t, func() { reason(t, b.announced(t, encoded, signature, tt.send...), tt.reason, tt.says...) })
			// The same delivery as it was described is taken.
			if _, err := b.county.Registrant.Submit(t.Context(), p); err != nil {
				t.Errorf("sent as it was described: %v", err)
			}
		})
	}
	t.Run("the unit goes away", func(t *testing.T) {
		p, err := b.county.Registrant.Pack("gone", map[string][]byte{"正文.txt": bytes.Repeat([]byte("x"), 1<<20)})
		if err != nil {
			t.Fatal(err)
		}
		client, err := b.county.Registrant.Client(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.refused(t, func() {
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			stream, err := client.Submissions.Submit(ctx)
			if err != nil {
				t.Fatal(err)
			}
			encoded, signature := p.Announcement()
			part := strings.Repeat("x", 64<<10)
			for _, m := range []*nodepb.SubmitRequest{{Part: &nodepb.SubmitRequest_Announcement{Announcement: &nodepb.Announcement{Submission: encoded, Signature: signature}}},
				file(part, false), file(part, false)} {
				if err := stream.Send(m); err != nil {
					t.Fatal(err)
				}
			}
			network.Until(t, 20*time.Second, "the delivery is being received", func(context.Context) error {
				_, err := os.Stat(b.county.Config.Path("quarantine", p.ID+".part"))
				return err
			})
			leave()
		})
	})
}
