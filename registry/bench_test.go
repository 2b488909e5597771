package registry

import (
	"fmt"
	"syscall"
	"testing"

	"dengbei/registry/registrypb"
)

// BenchmarkApply registers submissions of one record in entries of 64 and reports the CPU time of the whole process
// for one of them, Pebble's background work included.
func BenchmarkApply(b *testing.B) {
	for _, tt := range []struct {
		name      string
		manifests bool // every submission brings its own
	}{{"one manifest", false}, {"a manifest each", true}} {
		b.Run(tt.name, func(b *testing.B) {
			const group = 64
			s, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			data, err := EncodeEntry(testNetwork()...)
			if err != nil {
				b.Fatal(err)
			}
			s.Apply([]LogEntry{{Index: 1, Data: data}})
			var entries []LogEntry
			for n := 0; n < b.N; n += group {
				var commands []*registrypb.Command
				for i := n; i < min(n+group, b.N); i++ {
					c := testSubmission(fmt.Sprint(i), 1, 1)
					if tt.manifests {
						c.Manifest = testManifest(RepositoryID(shangcheng, "standard", 1), i+1)
					}
					commands = append(commands, cmd(started+int64(n), c))
				}
				data, err := EncodeEntry(commands...)
				if err != nil {
					b.Fatal(err)
				}
				entries = append(entries, LogEntry{Index: uint64(2 + n/group), Data: data})
			}
			b.ReportAllocs()
			before := cpuNanos(b)
			b.ResetTimer()
			for _, e := range entries {
				if r := s.Apply([]LogEntry{e}); r[0][0].Err() != nil {
					b.Fatal(r[0][0].Err())
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(cpuNanos(b)-before)/float64(b.N), "cpu-ns/op")
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func cpuNanos(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
