package certificate_test

import (
	"fmt"
	"os"
	"path/filepath"

	"dengbei/registry/certificate"
	"dengbei/registry/tlog"
)

// A third party has a certificate and the network's policy file, and nothing else.
func ExampleVerify() {
	text, err := os.ReadFile(filepath.Join("testdata", "policy.txt"))
	if err != nil {
		fmt.Println(err)
		return
	}
	policy, err := tlog.ParsePolicy(text)
	if err != nil {
		fmt.Println(err)
		return
	}
	raw, err := os.ReadFile(filepath.Join("testdata", "certificate-less.tlog-proof"))
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := certificate.Verify(raw, policy)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, disclosed := v.Value(tlog.FieldTitle)
	fmt.Println(v.Number, v.Authority, v.RegisteredAt.Format("2006-01-02"), "title disclosed:", disclosed)
	// Output: 330102-2026-000217-4 330102 2026-09-21 title disclosed: false
}
