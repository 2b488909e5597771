package identity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
)

func split(t *testing.T, n, k int) (Secret, []Share) {
	t.Helper()
	secret, shares, err := Split("zj", "330102", n, k)
	if err != nil {
		t.Fatal(err)
	}
	return secret, shares
}

func TestEveryThresholdOfSharesGivesTheSecret(t *testing.T) {
	secret, shares := split(t, 5, 3)
	for mask := range 1 << 5 {
		var some []Share
		for i := range shares {
			if mask&(1<<i) != 0 {
				some = append(some, shares[len(shares)-1-i])
			}
		}
		var want error
		if len(some) < 3 {
			want = ErrTooFewShares
		}
		s, err := Combine(some)
		if !errors.Is(err, want) || want == nil && s != secret {
			t.Errorf("Combine of %05b = %v; want %v and the secret", mask, err, want)
		}
	}
}

// The points were computed by an independent implementation of Shamir's scheme over P-256: secret 424242, threshold 3.
func TestCombineAgreesWithAnotherImplementation(t *testing.T) {
	points := map[int64]string{
		1: "222426282a2c2e30323436383a3c3e40424446484a4c4e50525456585a62d792",
		2: "868c92989ea4aab0b6bcc2c8ced4dae0e6ecf2f8ff050b11171d23292f3bb472",
		3: "2d3945525d6975808d99a5b1bdc9d5e231130b64771297bd5aa09baf822dea81",
		4: "162a3e54667a8ea0b6cadef3071b2f43dd9d8a38598c92da10988aae4f9c9f10",
		5: "415f7d9eb9d7f61132506e8caac8e705ec8c6f74a672fc673904f0259787d21f",
	}
	for _, xs := range [][]int64{{1, 2, 3}, {5, 3, 1}, {2, 4, 5}, {1, 2, 3, 4, 5}} {
		var shares []Share
		for _, x := range xs {
			s := Share{Index: int(x)}
			if _, err := hex.Decode(s.Value[:], []byte(points[x])); err != nil {
				t.Fatal(err)
			}
			shares = append(shares, s)
		}
		var want Secret
		big.NewInt(424242).FillBytes(want[:])
		if got, err := recoverSecret(shares); err != nil || got != want {
			t.Errorf("recoverSecret(%v) = %x, %v; want 424242", xs, got, err)
		}
	}
}

func TestCombineRefuses(t *testing.T) {
	_, shares := split(t, 4, 2)
	_, others := split(t, 4, 2)
	damaged := shares[1]
	damaged.Value[31] ^= 1
	huge := shares[1]
	huge.Value = [scalarLen]byte(bytes.Repeat([]byte{0xff}, scalarLen))
	for _, tt := range []struct {
		name string
		give []Share
		want error
	}{
		{"none", nil, ErrTooFewShares},
		{"one of two", shares[:1], ErrTooFewShares},
		{"one twice", []Share{shares[0], shares[0]}, ErrDuplicateShare},
		{"one of another split", []Share{shares[0], others[1]}, ErrForeignShare},
		{"one damaged", []Share{shares[0], damaged}, ErrShare},
		{"one damaged beside enough good ones", []Share{shares[0], damaged, shares[2]}, ErrShare},
		{"one outside the field", []Share{shares[0], huge}, ErrShare},
		{"two empty", make([]Share, 2), ErrShare},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Combine(tt.give); !errors.Is(err, tt.want) {
				t.Errorf("Combine = %v; want %v", err, tt.want)
			}
		})
	}
	for _, nk := range [][2]int{{1, 1}, {3, 1}, {2, 3}, {MaxShares + 1, 2}} {
		if _, _, err := Split("zj", "330102", nk[0], nk[1]); err == nil {
			t.Errorf("Split(%d, %d) succeeded", nk[0], nk[1])
		}
	}
}

func TestShareFilesAndBundle(t *testing.T) {
	dir := t.TempDir()
	secret, shares := split(t, 3, 2)
	bundle, err := SealBundle(secret, []byte("passwords"))
	if err != nil {
		t.Fatal(err)
	}
	var officers []*age.X25519Identity
	var read []Share
	for i, s := range shares {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		officers = append(officers, id)
		path := filepath.Join(dir, s.Set+string(rune('a'+i)))
		if err := WriteShare(path, s, id.Recipient()); err != nil {
			t.Fatal(err)
		}
		if err := WriteShare(path, s, id.Recipient()); !errors.Is(err, fs.ErrExist) {
			t.Errorf("WriteShare over a share = %v; want ErrExist", err)
		}
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(raw, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
			t.Errorf("share file is %.40q, %v; want armored age", raw, err)
		}
		got, err := ReadShare(path, id)
		if err != nil || got != s {
			t.Fatalf("ReadShare = %+v, %v; want %+v", got, err, s)
		}
		if i > 0 {
			if _, err := ReadShare(path, officers[0]); !errors.Is(err, ErrSealed) {
				t.Errorf("ReadShare by another officer = %v; want ErrSealed", err)
			}
		}
		read = append(read, got)
	}
	combined, err := Combine(read[1:])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenBundle(combined, bundle); err != nil || string(got) != "passwords" {
		t.Errorf("OpenBundle = %q, %v; want the passwords", got, err)
	}
	other, _ := split(t, 3, 2)
	if _, err := OpenBundle(other, bundle); !errors.Is(err, ErrSealed) {
		t.Errorf("OpenBundle with another secret = %v; want ErrSealed", err)
	}
}

func TestParseShareRefuses(t *testing.T) {
	for _, text := range []string{
		"", "{}", "[]", `{"format":"dengbei-share-2"}`, `{"format":"dengbei-share-1","share":"zz"}`, `{"format":"dengbei-share-1"} {}`,
		`{"format":"dengbei-share-1","colour":"red"}`,
	} {
		if _, err := parseShare([]byte(text)); !errors.Is(err, ErrShare) {
			t.Errorf("parseShare(%q) = %v; want ErrShare", text, err)
		}
	}
}

func TestSealingKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sealing.key")
	k, err := LoadOrCreateSealingKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateSealingKey(path)
	if err != nil || again.Secret() != k.Secret() {
		t.Fatalf("second LoadOrCreateSealingKey = other key, %v; want the first", err)
	}
	other, err := LoadOrCreateSealingKey(path + "2")
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecipient(k.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal([]byte("title"), r, again.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Open(sealed); err != nil || string(got) != "title" {
		t.Errorf("Open = %q, %v; want title", got, err)
	}
	if _, err := other.Open(sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("Open by another key = %v; want ErrSealed", err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := k.Open(sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("Open of changed bytes = %v; want ErrSealed", err)
	}
	if _, err := Seal([]byte("x")); err == nil {
		t.Error("Seal to nobody succeeded")
	}
	recovered, err := ParseSealingKey(k.Secret())
	if err != nil || recovered.Recipient().String() != k.Recipient().String() {
		t.Errorf("ParseSealingKey(Secret()) = %v; want the same key", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateSealingKey(path); !errors.Is(err, ErrFileMode) {
		t.Errorf("of mode 0644 = %v; want ErrFileMode", err)
	}
}
