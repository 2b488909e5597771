package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dengbei/deploy/e2e/network"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

// TestBadInput gives a small network what must be refused, case by case: a county, whose backups a province and a city
// hold. Every case ends with an error that names rule, item and way out; nothing half-done remains; the nodes go on.
func TestBadInput(t *testing.T) {
	b := startBad(t)
	for _, group := range []struct {
		name  string
		cases func(*testing.T, *badNetwork)
	}{
		{"Folder", badFolders},
		{"Names", oddNames},
		{"Twice", handedInTwice},
		{"Announcement", badAnnouncements},
		{"Content", badContent},
		{"Credential", badCredentials},
		{"Token", badTokens},
		{"CentreCode", badCentreCodes},
		{"RaftPort", badRaftCallers},
		{"Certificate", badCertificates},
		{"Start", badStarts},
		{"FullDisk", fullDisks},
		{"Owned", ownedRepositories},
		{"Repository", badRepositories},
	} {
		t.Run(group.name, func(t *testing.T) {
			group.cases(t, b)
			b.serves(t, group.name)
		})
	}
}

// badNetwork is the network of these tests.
type badNetwork struct {
	*network.Network
	province, city, county *network.Centre
	unit                   string // credential directory of the county's unit
	volumes                error  // why the small volumes could not be mounted; nil if they are
}

// volumeBytes is the size of a volume while its disk is not to be full.
const volumeBytes = 512 << 20

func startBad(t *testing.T) *badNetwork {
	t.Helper()
	if os.Getenv(network.EnvRun) != "1" {
		t.Skipf("starts three processes and gives them bad input: set %s=1 to run it", network.EnvRun)
	}
	n := network.Start(t, programs, []network.Spec{
		{Code: "330000", Name: "浙江省", Voter: true, Longitude: 120.153, Latitude: 30.267},
		{Code: "330100", Name: "杭州市", Voter: true, Longitude: 120.209, Latitude: 30.246},
		{Code: "330282", Name: "慈溪市", Longitude: 121.266, Latitude: 30.170, Holders: []string{"330000", "330100"}},
	})
	b := &badNetwork{Network: n, province: n.Centre("330000"), city: n.Centre("330100"), county: n.Centre("330282"),
		unit: n.Path("registrants", "330282")}
	b.mountVolumes(t)
	return b
}

// mountVolumes puts what the full-disk cases fill up onto volumes of its own.
func (b *badNetwork) mountVolumes(t *testing.T) {
	t.Helper()
	for c, dirs := range map[*network.Centre][]string{b.county: {"quarantine", "repositories"}, b.city: {"held"}} {
		c.Stop(t)
		for _, dir := range dirs {
			if b.volumes == nil {
				b.volumes = mountVolume(t, c.Config.Path(dir))
			}
		}
		c.Start(t)
	}
}

// run is what one program did.
type ran struct {
	status         int
	stdout, stderr string
}

func (r ran) String() string {
	return fmt.Sprintf("exit status %d\nstdout: %s\nstderr: %s", r.status, r.stdout, r.stderr)
}

// both is everything that was printed.
func (r ran) both() string { return r.stdout + r.stderr }

// want fails the test unless the program ended with the status and said all of texts.
func (r ran) want(t *testing.T, status int, texts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("exit status is %d; want %d\n%s", r.status, status, r)
	}
	for _, text := range texts {
		if !strings.Contains(r.both(), text) {
			t.Errorf("the answer does not say %q:\n%s", text, r)
		}
	}
}

// dengbei runs the program with the command line args.
func (b *badNetwork) dengbei(t *testing.T, args ...string) ran {
	t.Helper()
	return b.execute(t, b.Programs.Dengbei, nil, args...)
}

func (b *badNetwork) execute(t *testing.T, program string, attr *syscall.SysProcAttr, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &stdout, &stderr, attr
	cmd.Dir = "/"
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || !exit.Exited()) {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(program), args, err, stderr.String())
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// submit hands folders in at the county with its unit's credential.
func (b *badNetwork) submit(t *testing.T, args ...string) ran {
	t.Helper()
	return b.dengbei(t, append([]string{"submit", "--node", b.county.Config.Peer.Listen, "--credential", b.unit}, args...)...)
}

// handedIn is the answer to one submission.
type handedIn struct {
	ID         string `json:"id"`
	Existing   bool   `json:"existing"`
	Submission struct {
		State     string   `json:"state"`
		Numbers   []string `json:"numbers"`
		LastError string   `json:"last_error"`
		Copies    int      `json:"offsite_copies"`
	} `json:"submission"`
	Receipt struct {
		Submission string `json:"submission"`
	} `json:"receipt"`
}

// handIn hands a folder in, which must succeed.
func (b *badNetwork) handIn(t *testing.T, folder, wait string) handedIn {
	t.Helper()
	r := b.submit(t, folder, "--wait", wait, "--json")
	var v struct {
		Submissions []handedIn `json:"submissions"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || r.status != 0 || len(v.Submissions) != 1 {
		t.Fatalf("submit %q: %v; want one submission and exit status 0\n%s", folder, err, r)
	}
	return v.Submissions[0]
}

// folder makes a folder with files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "2026年收文")
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// remains is what a refused delivery may not add to.
type remains struct {
	entries []string // of the quarantine
	listed  []string // submissions
	numbers uint64
}

func (b *badNetwork) remains(t *testing.T) remains {
	t.Helper()
	var r remains
	entries, err := os.ReadDir(b.county.Config.Path("quarantine"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		r.entries = append(r.entries, e.Name())
	}
	list, err := b.county.Operator.Submissions.List(t.Context(), &nodepb.ListSubmissionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.GetSubmissions() {
		r.listed = append(r.listed, s.GetId())
	}
	s, err := b.county.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.numbers = s.GetLogSize()
	return r
}

// refused runs do and fails the test if it left anything at the county: a file in the quarantine, a submission, a number.
func (b *badNetwork) refused(t *testing.T, do func()) {
	t.Helper()
	b.settled(t)
	before := b.remains(t)
	do()
	// A connection that was broken is noticed a moment later.
	network.Until(t, 20*time.Second, "the refused delivery is gone from the quarantine", func(context.Context) error {
		if now := b.remains(t); !slices.Equal(now.entries, before.entries) {
			return fmt.Errorf("it holds %q; before it held %q", now.entries, before.entries)
		}
		return nil
	})
	now := b.remains(t)
	if !slices.Equal(now.listed, before.listed) {
		t.Errorf("submissions are %q; before they were %q", now.listed, before.listed)
	}
	if now.numbers != before.numbers {
		t.Errorf("there are %d registrations; before there were %d", now.numbers, before.numbers)
	}
}

// settled waits until nothing is on its way to a number.
func (b *badNetwork) settled(t *testing.T) {
	t.Helper()
	network.Until(t, time.Minute, "nothing waits at the county", func(ctx context.Context) error {
		s, err := b.county.Status(ctx)
		if err == nil && s.GetWaitingSubmissions() > 0 {
			err = fmt.Errorf("%d submissions wait", s.GetWaitingSubmissions())
		}
		return err
	})
}

// serves shows that all three run and that a good delivery goes through, after the cases of a group.
func (b *badNetwork) serves(t *testing.T, group string) {
	t.Helper()
	for _, c := range b.Centres {
		if !c.Running() {
			t.Fatalf("after %s: the node of %s has ended", group, c.Code)
		}
	}
	if t.Failed() || t.Skipped() {
		return // its failures say more than what follows from them
	}
	s := b.handIn(t, folder(t, map[string]string{"正文.txt": "after " + group}), "registered")
	if s.Submission.State != "registered" || len(s.Submission.Numbers) != 1 {
		t.Errorf("after %s: a good delivery is %s with numbers %q; want it registered", group, s.Submission.State, s.Submission.Numbers)
	}
}

// offsite waits until a submission has as many off-site copies.
func (b *badNetwork) offsite(t *testing.T, id string, copies uint32, limit time.Duration) {
	t.Helper()
	network.Until(t, limit, fmt.Sprintf("%d off-site copies", copies), func(ctx context.Context) error {
		s, err := b.county.Operator.Submissions.Show(ctx, &nodepb.ShowSubmissionRequest{Id: id})
		if err == nil && s.GetOffsiteCopies() < copies {
			err = fmt.Errorf("%d so far, state %s, %s", s.GetOffsiteCopies(), s.GetState(), s.GetLastError())
		}
		return err
	})
}

// restored gets a record back over the command line and compares it with the folder that was handed in: the same names,
// the same bytes. It returns what was healed.
func (b *badNetwork) restored(t *testing.T, number, from string) []string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "restored")
	r := b.dengbei(t, "restore", number, "--target", target, "--config", b.county.File, "--json")
	var v struct {
		Healed []struct {
			File   string `json:"file"`
			Source string `json:"source"`
		} `json:"healed"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || r.status != 0 {
		t.Fatalf("restore %s: %v; want exit status 0\n%s", number, err, r)
	}
	want, got := tree(t, from), tree(t, filepath.Join(target, "data"))
	for name, text := range want {
		if other, ok := got[name]; !ok || other != text {
			t.Errorf("restored %q: there %t, equal %t; want the file as it was", name, ok, other == text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("restored are %d files; want %d", len(got), len(want))
	}
	var healed []string
	for _, h := range v.Healed {
		healed = append(healed, h.File+" from "+h.Source)
	}
	return healed
}

// tree reads all files below dir.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		files[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// reason fails the test unless err is a node's answer for that reason that says all of texts.
func reason(t *testing.T, err error, want string, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("the node accepted; want a refusal with reason %s", want)
		return
	}
	if got := rpc.Reason(err); got != want {
		t.Errorf("reason = %q (%v); want %s", got, err, want)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the answer %q does not say %q", err, text)
		}
	}
}
