package retention

import "testing"

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"1y5m7d2h", "", "0h", "-1d", "9999999999999999999y", "5", "h5", "1d1d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q is written as %q: %v", s, d, err)
		}
	})
}
