package registry

import (
	"encoding/hex"
	"strconv"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// Statements are what centres and registrants sign: a header line with purpose and version, then lines in a fixed
// order, each ended by a line feed. A line is "<name> <value>" where the format below says so. A byte below 0x20, 0x7f
// or "%" in a value is written as "%" and two upper-case hex digits, so that a statement has one reading whatever the
// values are.

// SubmissionStatement is what a registrant signs (Ed25519) when it hands a submission in:
//
//	dengbei/submission/v1
//	<submission ID, 64 lower-case hex digits>
func SubmissionStatement(submission []byte) []byte {
	return []byte("dengbei/submission/v1\n" + hex.EncodeToString(submission) + "\n")
}

// DecisionStatement is what an authority signs when it accepts a record; see [tlog.DecisionStatement]. The digests are
// of the bag's manifest-sha256.txt and manifest-sm3.txt and of the inspection report, in lower-case hex.
func DecisionStatement(authority string, submission []byte, ordinal uint32, manifestSHA256, manifestSM3, report string) []byte {
	return tlog.DecisionStatement(authority, submissionField(submission, ordinal), manifestSHA256, manifestSM3, report)
}

// CertificateStatement is what an authority signs after registration; see [tlog.CertificateStatement].
func CertificateStatement(origin, number string, seq uint64, commitment [32]byte) []byte {
	return tlog.CertificateStatement(origin, number, seq, commitment)
}

// ReceiptStatement is what a holder signs (Ed25519) once it has re-hashed and synced every file of a set:
//
//	dengbei/receipt/v1
//	repository <ID>
//	manifest <digest, hex>
//	sequence <number of the manifest in its repository>
//	holder <server ID>
//	set <root over the whole set, hex>
//	files <count>
//	bytes <count>
//	verified <milliseconds since 1970-01-01 UTC, the holder's clock>
//
// Signature and registration time are no part of it.
func ReceiptStatement(r *registrypb.Receipt) []byte {
	b := []byte("dengbei/receipt/v1\n")
	b = appendLine(b, "repository", r.GetRepository())
	b = appendLine(b, "manifest", hex.EncodeToString(r.GetManifest()))
	b = appendLine(b, "sequence", strconv.FormatUint(r.GetManifestSequence(), 10))
	b = appendLine(b, "holder", ServerID(r.GetHolder(), r.GetHolderSerial()))
	b = appendLine(b, "set", hex.EncodeToString(r.GetSetRoot()))
	b = appendLine(b, "files", strconv.FormatUint(r.GetFiles(), 10))
	b = appendLine(b, "bytes", strconv.FormatUint(r.GetSizeBytes(), 10))
	return appendLine(b, "verified", strconv.FormatInt(r.GetVerifiedAtMillis(), 10))
}

func appendLine(b []byte, name, value string) []byte {
	const digits = "0123456789ABCDEF"
	b = append(b, name...)
	b = append(b, ' ')
	for i := range len(value) {
		if c := value[i]; c < 0x20 || c == 0x7f || c == '%' {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return append(b, '\n')
}

// submissionField is the submission as a certificate names it: ID in hex, "/" and the record's ordinal.
func submissionField(submission []byte, ordinal uint32) string {
	return hex.EncodeToString(submission) + "/" + strconv.FormatUint(uint64(ordinal), 10)
}
