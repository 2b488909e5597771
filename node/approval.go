package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"dengbei/node/config"
	"dengbei/registry/intake"
	"dengbei/registry/tlog"
)

// AutoApproval is an authority's standing decision: submissions inside its scope whose inspection ended well are
// accepted without an officer looking at each. It is signed by the authority's key; what is outside its scope waits for
// an officer.
type AutoApproval struct {
	Name       string `json:"name"`
	Authority  string `json:"authority"`  // code of the deciding authority
	Registrant string `json:"registrant"` // a registrant's ID, or "*" for all of the authority
	// Results are the inspection results that are accepted: PASS, or PASS and WARN.
	Results []string `json:"results"`
	// ExceptBatch is the batch name with which a registrant asks for an officer's look. Empty = none.
	ExceptBatch string `json:"except_batch,omitempty"`
	// ValidUntil is when the policy ends.
	ValidUntil time.Time `json:"valid_until"`
	// VKey and Signature are the authority's, over the other fields.
	VKey      string `json:"vkey"`
	Signature string `json:"signature"`
}

func (a AutoApproval) statement() ([]byte, error) {
	a.Signature = ""
	b, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("auto-approval policy: %w", err)
	}
	return append([]byte("dengbei/auto-approval/v1\n"), b...), nil
}

// covers reports whether the policy decides about a submission with this inspection result.
func (a AutoApproval) covers(s *intake.Submission, result string, now time.Time) bool {
	return s.Authority == a.Authority && now.Before(a.ValidUntil) &&
		(a.Registrant == "*" || a.Registrant == s.Registrant) &&
		slices.Contains(a.Results, result) && (a.ExceptBatch == "" || a.ExceptBatch != s.Batch)
}

func approvalPath(cfg config.Config) string { return cfg.Path("policies", "auto-approval.json") }

// SignAutoApproval signs a policy with the authority's key in the data directory and puts it in force; a running node
// takes it up with the next submission.
func SignAutoApproval(cfg config.Config, a AutoApproval) error {
	network, err := loadNetwork(cfg)
	if err != nil {
		return err
	}
	k, err := loadKeys(cfg, network.GetOrigin())
	if err != nil {
		return err
	}
	a.Authority = cfg.Centre
	if a.VKey, err = k.AuthorityVKey(); err != nil {
		return fmt.Errorf("auto-approval policy: %w", err)
	}
	a.ValidUntil = a.ValidUntil.UTC()
	for _, r := range a.Results {
		if r != "PASS" && r != "WARN" {
			return fmt.Errorf("auto-approval policy: result %q cannot be accepted without an officer: want PASS or WARN", r)
		}
	}
	text, err := a.statement()
	if err != nil {
		return err
	}
	if a.Signature, err = tlog.SignStatement(k.Authority, text); err != nil {
		return fmt.Errorf("auto-approval policy: %w", err)
	}
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("auto-approval policy: %w", err)
	}
	return writeDurable(approvalPath(cfg), append(b, '\n'))
}

// loadApproval reads the policy in force, nil if there is none. One that the authority's key did not sign is an error:
// it decides nothing.
func loadApproval(cfg config.Config, vkey string) (*AutoApproval, error) {
	b, err := os.ReadFile(approvalPath(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("auto-approval policy: %w", err)
	}
	var a AutoApproval
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return nil, fmt.Errorf("auto-approval policy %s: %w", approvalPath(cfg), err)
	}
	text, err := a.statement()
	if err != nil {
		return nil, err
	}
	if a.VKey != vkey {
		return nil, fmt.Errorf("auto-approval policy %q is signed with another key than this authority's: sign it again", a.Name)
	}
	if err := tlog.VerifyStatement(vkey, text, a.Signature); err != nil {
		return nil, fmt.Errorf("auto-approval policy %q: %w", a.Name, err)
	}
	return &a, nil
}
