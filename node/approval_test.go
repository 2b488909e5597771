package node

import (
	"os"
	"strings"
	"testing"
	"time"

	"dengbei/node/config"
	"dengbei/node/nodepb"
	"dengbei/registry/intake"
	"dengbei/registry/registrypb"
)

func approvalConfig(t *testing.T) (config.Config, string) {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.Centre = t.TempDir(), "330102"
	err := saveNetwork(cfg, &nodepb.EnrolReply{Network: "test", Origin: testOrigin, Member: &registrypb.Member{Code: "330102", Serial: 4}})
	if err != nil {
		t.Fatal(err)
	}
	k, err := loadKeys(cfg, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := k.AuthorityVKey()
	if err != nil {
		t.Fatal(err)
	}
	return cfg, vkey
}

func TestAutoApprovalCoversItsScopeOnly(t *testing.T) {
	cfg, vkey := approvalConfig(t)
	until := time.Now().Add(time.Hour)
	err := SignAutoApproval(cfg, AutoApproval{Name: "daily", Registrant: "330102/unit", Results: []string{"PASS"}, ExceptBatch: "manual", ValidUntil: until})
	if err != nil {
		t.Fatal(err)
	}
	a, err := loadApproval(cfg, vkey)
	if err != nil || a == nil {
		t.Fatalf("loadApproval = %v, %v; want the policy", a, err)
	}
	sub := func(change func(*intake.Submission)) *intake.Submission {
		s := &intake.Submission{Registrant: "330102/unit", Authority: "330102"}
		change(s)
		return s
	}
	for _, tt := range []struct {
		name   string
		sub    *intake.Submission
		result string
		at     time.Time
		want   bool
	}{
		{"inside", sub(func(*intake.Submission) {}), "PASS", time.Now(), true},
		{"a warning is not in its results", sub(func(*intake.Submission) {}), "WARN", time.Now(), false},
		{"another registrant", sub(func(s *intake.Submission) { s.Registrant = "330102/other" }), "PASS", time.Now(), false},
		{"another authority", sub(func(s *intake.Submission) { s.Authority = "330105" }), "PASS", time.Now(), false},
		{"the batch left to an officer", sub(func(s *intake.Submission) { s.Batch = "manual" }), "PASS", time.Now(), false},
		{"after its end", sub(func(*intake.Submission) {}), "PASS", until.Add(time.Second), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := a.covers(tt.sub, tt.result, tt.at); got != tt.want {
				t.Errorf("covers = %v; want %v", got, tt.want)
			}
		})
	}
}

func TestAutoApprovalDecidesNothingOnceChanged(t *testing.T) {
	cfg, vkey := approvalConfig(t)
	err := SignAutoApproval(cfg, AutoApproval{Name: "daily", Registrant: "330102/unit", Results: []string{"PASS"}, ValidUntil: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(approvalPath(cfg))
	if err != nil {
		t.Fatal(err)
	}
	wider := strings.Replace(string(b), "330102/unit", "*", 1)
	if err := os.WriteFile(approvalPath(cfg), []byte(wider), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := loadApproval(cfg, vkey); err == nil {
		t.Errorf("loadApproval of a widened policy = %+v; want an error", a)
	}
	if err := SignAutoApproval(cfg, AutoApproval{Name: "x", Registrant: "*", Results: []string{"FAIL"}}); err == nil {
		t.Error("SignAutoApproval accepts what failed its inspection; want an error")
	}
}
