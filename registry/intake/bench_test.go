package intake

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// BenchmarkReceiveTiny receives submissions of one small file, many at once, as a morning's rush does.
func BenchmarkReceiveTiny(b *testing.B) {
	q, err := OpenQuarantine(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	var n atomic.Int64
	b.SetParallelism(1000)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			content := fmt.Sprint("record ", n.Add(1))
			in, err := q.Receive(submission(content, map[string]string{"a.txt": content}), nil, at())
			if err == nil {
				err = in.Put(context.Background(), 0, "a.txt", strings.NewReader(content))
			}
			if err == nil {
				err = in.Commit(context.Background())
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkReceiveHundreds receives one submission of 300 files.
func BenchmarkReceiveHundreds(b *testing.B) {
	q, err := OpenQuarantine(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	n := 0
	for b.Loop() {
		n++
		files := map[string]string{}
		for i := range 300 {
			files[fmt.Sprintf("d%d/f%d", i%10, i)] = fmt.Sprintf("%d %s", i, strings.Repeat("x", 4000))
		}
		in, err := q.Receive(submission(fmt.Sprint(n), files), nil, at())
		for p, c := range files {
			if err == nil {
				err = in.Put(b.Context(), 0, p, strings.NewReader(c))
			}
		}
		if err == nil {
			err = in.Commit(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
