// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Backoff says how long a key that failed waits before it is tried again: Initial
// after the first failure, twice as long after each further one, up to Max; of
// each wait a random part of up to a fifth is taken away, so that keys that failed
// together do not come back together.
type Backoff struct {
	Initial time.Duration // 0 means 5 ms
	Max     time.Duration // 0 means 1,000 s, or Initial if that is longer
}

func (b *Backoff) complete() error {
	switch {
	case b.Initial < 0:
		return fmt.Errorf("option Backoff.Initial is %v: it can't be negative", b.Initial)
	case b.Max < 0:
		return fmt.Errorf("option Backoff.Max is %v: it can't be negative", b.Max)
	}
	if b.Initial == 0 {
		b.Initial = 5 * time.Millisecond
		if b.Max > 0 {
			b.Initial = min(b.Initial, b.Max)
		}
	}
	if b.Max == 0 {
		b.Max = max(1000*time.Second, b.Initial)
	}
	if b.Max < b.Initial {
		return fmt.Errorf("option Backoff.Max is %v: it can't be less than Backoff.Initial, %v", b.Max, b.Initial)
	}
	return nil
}

// after returns how long to wait after so many failures, without jitter.
func (b Backoff) after(attempts int) time.Duration {
	d := b.Initial
	for ; attempts > 1 && d < b.Max; attempts-- {
		if d > b.Max/2 {
			return b.Max
		}
		d *= 2
	}
	return d
}

// A limiter says when a key that failed may be tried again.
type limiter struct {
	backoff Backoff
	bucket  bucket
	random  *rand.PCG
}

func newLimiter(b Backoff, rate float64, burst int, seed uint64) limiter {
	if seed == 0 {
		seed = rand.Uint64()
	}
	return limiter{backoff: b, bucket: newBucket(rate, burst), random: rand.NewPCG(seed, 0)}
}

// jitter is the part of a backoff that is random.
const jitter = 0.2

// after returns when a key may be tried that has just failed for the attempts-th
// time in a row, and takes a token for it.
func (l *limiter) after(now int64, attempts int) int64 {
	d := l.backoff.after(attempts)
	random := float64(l.random.Uint64()>>11) / (1 << 53)
	d -= time.Duration(float64(d) * jitter * random)
	return max(dueAt(now, d), l.bucket.take(now))
}

// A bucket is a token bucket in its form as a schedule (the generic cell rate
// algorithm): it has no state but the time at which it would be full again.
type bucket struct {
	interval float64 // ns for a token; 0: no limit
	burst    float64 // ns in which an empty bucket fills up, less one token
	full     float64 // ns
}

func newBucket(rate float64, burst int) bucket {
	if rate < 0 {
		return bucket{}
	}
	interval := float64(time.Second) / rate
	return bucket{interval: interval, burst: interval * float64(burst-1)}
}

// take takes a token and returns when it is there.
func (b *bucket) take(now int64) int64 {
	b.full = max(b.full, float64(now))
	at := b.full - b.burst
	b.full += b.interval
	if at >= math.MaxInt64 {
		return never
	}
	return max(int64(at), now)
}
