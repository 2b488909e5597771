package replication

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiterRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(4 << 20)
		began := time.Now()
		var wg sync.WaitGroup
		for range 4 { // shared by several streams
			wg.Go(func() {
				for range 10 {
					if err := l.Wait(context.Background(), 1<<20); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("40 MiB at 4 MiB/s took %v; want 10 s", took)
		}
		// Silence earns one burst, not more.
		time.Sleep(time.Hour)
		began = time.Now()
		for range 9 {
			l.Wait(context.Background(), 1<<20)
		}
		if took := time.Since(began); took < 1900*time.Millisecond || took > 2300*time.Millisecond {
			t.Errorf("9 MiB after silence took %v; want 2 s", took)
		}
	})
}

func TestLimiterSetReachesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1)
		done := make(chan error, 1)
		go func() { done <- l.Wait(context.Background(), 1<<30) }()
		synctest.Wait()
		began := time.Now()
		l.Set(0)
		if err := <-done; err != nil || time.Since(began) > 0 {
			t.Errorf("Wait = %v after %v; want nil at once", err, time.Since(began))
		}
	})
}

func TestLimiterEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := NewLimiter(1).Wait(ctx, 1<<30); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v; want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestNoLimiter(t *testing.T) {
	for _, l := range []*Limiter{nil, {}, NewLimiter(0)} {
		for range 100 {
			if err := l.Wait(context.Background(), 1<<30); err != nil {
				t.Errorf("Wait = %v", err)
			}
		}
	}
}
