package tlog

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/note"
)

// CertificateStatement returns what an authority signs after registration: that the record of this number stands at
// position seq of the log origin under this commitment. The arguments are single lines.
func CertificateStatement(origin, number string, seq uint64, commitment [32]byte) []byte {
	return []byte("dengbei/certificate/v1\n" + origin + "\n" + number + "\n" + strconv.FormatUint(seq, 10) + "\n" +
		hex.EncodeToString(commitment[:]) + "\n")
}

// DecisionStatement returns what an authority signs when it accepts a record: submission is the ID in hex, "/" and the
// record's ordinal; the digests are in lower-case hex. The arguments are single lines.
func DecisionStatement(authority, submission string, manifestSHA256, manifestSM3, report string) []byte {
	return []byte("dengbei/decision/v1\n" + authority + "\n" + submission + "\n" + manifestSHA256 + "\n" + manifestSM3 + "\n" +
		report + "\naccept\n")
}

// SignStatement signs a statement with an authority's secret key and returns the bare Ed25519 signature in base64.
func SignStatement(skey string, statement []byte) (string, error) {
	signer, err := note.NewSigner(skey)
	if err != nil {
		return "", fmt.Errorf("sign statement: authority key: %w", ErrMalformed)
	}
	sig, err := signer.Sign(statement)
	if err != nil {
		return "", fmt.Errorf("sign statement as %s: %w", signer.Name(), err)
	}
	return base64.StdEncoding.EncodeToString(sig), nil
}

// VerifyStatement checks a signature made by [SignStatement] with the key whose public half is vkey. A wrong one gives
// an error matching [ErrSignature], any other spelling of vkey or signature one matching [ErrMalformed].
func VerifyStatement(vkey string, statement []byte, signature string) error {
	name, key, err := parseVKey(vkey, algEd25519)
	if err != nil {
		return err
	}
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(sig) != ed25519.SignatureSize || base64.StdEncoding.EncodeToString(sig) != signature {
		return fmt.Errorf("signature by %s: not the base64 of 64 bytes: %w", name, ErrMalformed)
	}
	if !ed25519.Verify(key, statement, sig) {
		return fmt.Errorf("signature by %s: %w", name, ErrSignature)
	}
	return nil
}
