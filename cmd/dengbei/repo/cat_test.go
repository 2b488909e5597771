package repo

import (
	"bytes"
	"encoding/json"
	"testing"

	"dengbei/cmd/dengbei/term"
)

func TestPrintJSONIsHarmlessOnATerminal(t *testing.T) {
	var out bytes.Buffer
	r := &commands{Console: &term.Console{Out: &out}}
	give := "{\"host\":\"a\u009b31m\u202eb\U000e0001 登记\"}"
	if err := r.printJSON([]byte(give)); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"host\": \"a\\u009b31m\\u202eb\\udb40\\udc01 登记\"\n}\n"
	if out.String() != want {
		t.Errorf("printJSON(%q) = %q; want %q", give, out.String(), want)
	}
	var a, b struct{ Host string }
	if json.Unmarshal([]byte(give), &a) != nil || json.Unmarshal(out.Bytes(), &b) != nil || a != b {
		t.Errorf("printJSON changes the value: %q, %q", a, b)
	}
	if err := r.printJSON([]byte("junk")); err == nil {
		t.Error("printJSON(junk) succeeds")
	}
}
