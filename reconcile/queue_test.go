// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// get takes a key that must be ready now.
func get[K comparable](t *testing.T, q *reconcile.Queue[K]) reconcile.Item[K] {
	t.Helper()
	if q.Len() == 0 {
		t.Fatal("no key is ready")
	}
	item, err := q.Get(t.Context())
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return item
}

// phase returns the phase of a key, and "" if the queue does not know it.
func phase[K comparable](q *reconcile.Queue[K], key K) string {
	s, ok := q.Explain(key)
	if !ok {
		return ""
	}
	return s.Phase.String()
}

func expectPhase[K comparable](t *testing.T, q *reconcile.Queue[K], key K, want string) {
	t.Helper()
	if got := phase(q, key); got != want {
		t.Fatalf("%v is %q, want %q", key, got, want)
	}
}

// bubble runs a test in virtual time with a queue of strings.
func bubble(t *testing.T, opts reconcile.QueueOptions[string], f func(t *testing.T, q *reconcile.Queue[string])) {
	synctest.Test(t, func(t *testing.T) { f(t, reconcile.NewQueue(opts)) })
}

func TestQueueDeduplicates(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		q.Add("a")
		q.Add("b")
		q.Add("a")
		if n := q.Len(); n != 2 {
			t.Fatalf("Len = %d, want 2", n)
		}
		if got := get(t, q).Key + get(t, q).Key; got != "ab" {
			t.Errorf("got %q, want ab", got)
		}
		q.Add("a") // while it is running
		if n := q.Len(); n != 0 {
			t.Fatalf("a running key is ready again: Len = %d", n)
		}
		q.Done("b")
		expectPhase(t, q, "b", "")
		q.Done("a")
		if got := get(t, q).Key; got != "a" {
			t.Errorf("got %q, want a", got)
		}
		q.Done("a")
		if c := q.Counts(); c != (reconcile.Counts{}) {
			t.Errorf("Counts = %+v of an empty queue", c)
		}
	})
}

// A key has one deadline: each row is what is done to it, at once, and when it is
// ready then; -1 means never.
func TestQueueDeadlines(t *testing.T) {
	type q = *reconcile.Queue[string]
	const s = time.Second
	at := func(d time.Duration) time.Time { return time.Now().Add(d) }
	for name, test := range map[string]struct {
		do   func(q q)
		want time.Duration
	}{
		"after":                     {func(q q) { q.AddAfter("k", 3*s) }, 3 * s},
		"after nothing":             {func(q q) { q.AddAfter("k", 0) }, 0},
		"after less than nothing":   {func(q q) { q.AddAfter("k", -s) }, 0},
		"after the smallest time":   {func(q q) { q.AddAfter("k", math.MinInt64) }, 0},
		"after the longest time":    {func(q q) { q.AddAfter("k", math.MaxInt64) }, -1},
		"later does not delay":      {func(q q) { q.AddAfter("k", 3*s); q.AddAfter("k", 5*s) }, 3 * s},
		"earlier hastens":           {func(q q) { q.AddAfter("k", 5*s); q.AddAfter("k", 3*s) }, 3 * s},
		"now hastens":               {func(q q) { q.AddAfter("k", 5*s); q.Add("k") }, 0},
		"now is not delayed":        {func(q q) { q.Add("k"); q.AddAfter("k", 5*s) }, 0},
		"not later than":            {func(q q) { q.AddNotLaterThan("k", at(3*s)) }, 3 * s},
		"not later than, in vain":   {func(q q) { q.AddAfter("k", 2*s); q.AddNotLaterThan("k", at(3*s)) }, 2 * s},
		"not later than the past":   {func(q q) { q.AddNotLaterThan("k", at(-s)) }, 0},
		"not later than year 1":     {func(q q) { q.AddNotLaterThan("k", time.Time{}) }, 0},
		"not before":                {func(q q) { q.AddNotBefore("k", at(3*s)) }, 3 * s},
		"not before delays":         {func(q q) { q.AddAfter("k", 2*s); q.AddNotBefore("k", at(3*s)) }, 3 * s},
		"not before hastens":        {func(q q) { q.AddAfter("k", 5*s); q.AddNotBefore("k", at(3*s)) }, 3 * s},
		"not before delays a ready": {func(q q) { q.Add("k"); q.AddNotBefore("k", at(3*s)) }, 3 * s},
		"not before the past":       {func(q q) { q.AddAfter("k", 5*s); q.AddNotBefore("k", at(-s)) }, 0},
		"not before year 9999":      {func(q q) { q.AddNotBefore("k", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)) }, -1},
		"cancel":                    {func(q q) { q.AddAfter("k", 3*s); q.Cancel("k") }, -1},
		"cancel, then add":          {func(q q) { q.AddAfter("k", 3*s); q.Cancel("k"); q.AddAfter("k", 5*s) }, 5 * s},
		"a ready is not canceled":   {func(q q) { q.Add("k"); q.Cancel("k") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				time.Sleep(time.Minute) // so that the queue's clock does not stand at its beginning
				start := time.Now()
				test.do(q)
				_, err := q.Get(ctx)
				switch took := time.Since(start); {
				case test.want < 0 && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("ready after %v (%v), want never", took, err)
				case test.want >= 0 && (err != nil || took != test.want):
					t.Errorf("ready after %v (%v), want %v", took, err, test.want)
				}
			})
		})
	}
}

func TestQueueBackoff(t *testing.T) {
	backoff := reconcile.Backoff{Initial: time.Second, Max: time.Minute}
	bubble(t, reconcile.QueueOptions[string]{Backoff: backoff}, func(t *testing.T, q *reconcile.Queue[string]) {
		q.Add("k", reconcile.AddOptions{Priority: reconcile.PriorityHigh})
		for n := range 10 {
			start := time.Now()
			item, err := q.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if item.Attempts != n || item.Priority != reconcile.PriorityHigh {
				t.Errorf("run %d: %+v", n, item)
			}
			if n > 0 {
				most := min(time.Second<<(n-1), time.Minute)
				if took := time.Since(start); took > most || took < most*8/10 {
					t.Errorf("failure %d: waited %v, want %v less up to a fifth", n, took, most)
				}
			}
			if q.Retry("k", fmt.Errorf("failure %d", n+1)) {
				t.Fatal("parked without MaxAttempts")
			}
			s, _ := q.Explain("k")
			if s.Phase != reconcile.PhaseWaiting || s.Attempts != n+1 || s.LastError.Error() != fmt.Sprintf("failure %d", n+1) {
				t.Errorf("after failure %d: %+v", n+1, s)
			}
		}
		if _, err := q.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		q.Done("k")
		expectPhase(t, q, "k", "")
	})
}

func TestQueueParks(t *testing.T) {
	bad := errors.New("bad")
	options := reconcile.QueueOptions[string]{MaxAttempts: 3}
	parkK := func(t *testing.T, q *reconcile.Queue[string]) {
		q.Add("k")
		for n := 1; n <= 3; n++ {
			if _, err := q.Get(t.Context()); err != nil {
				t.Fatal(err)
			}
			if parked := q.Retry("k", bad); parked != (n == 3) {
				t.Fatalf("failure %d: parked = %v", n, parked)
			}
		}
		s, _ := q.Explain("k")
		if s.Phase != reconcile.PhaseParked || s.Attempts != 3 || s.LastError != bad {
			t.Fatalf("%+v", s)
		}
	}
	for name, back := range map[string]func(q *reconcile.Queue[string]){
		"unpark":   func(q *reconcile.Queue[string]) { q.Unpark("k") },
		"add":      func(q *reconcile.Queue[string]) { q.Add("k") },
		"addAfter": func(q *reconcile.Queue[string]) { q.AddAfter("k", time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options, func(t *testing.T, q *reconcile.Queue[string]) {
				parkK(t, q)
				q.Add("k", reconcile.AddOptions{KeepBackoff: true})
				time.Sleep(24 * time.Hour)
				expectPhase(t, q, "k", "parked")
				back(q)
				item, err := q.Get(t.Context())
				if err != nil || item.Attempts != 0 {
					t.Errorf("%+v, %v", item, err)
				}
				if q.Unpark("k") {
					t.Error("a running key was parked")
				}
				q.Done("k")
				expectPhase(t, q, "k", "")
			})
		})
	}
	t.Run("news during the run", func(t *testing.T) {
		bubble(t, options, func(t *testing.T, q *reconcile.Queue[string]) {
			q.Add("k")
			get(t, q)
			q.Add("k")
			q.Park("k", bad)
			if item := get(t, q); item.Attempts != 0 {
				t.Errorf("%+v", item)
			}
			q.Add("k", reconcile.AddOptions{KeepBackoff: true})
			q.Park("k", bad)
			expectPhase(t, q, "k", "parked")
		})
	})
}

func TestQueueNewsEndsBackoff(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{Backoff: reconcile.Backoff{Initial: time.Minute}}, func(t *testing.T, q *reconcile.Queue[string]) {
		q.Add("k")
		get(t, q)
		q.Retry("k", nil)
		q.Add("k", reconcile.AddOptions{KeepBackoff: true})
		expectPhase(t, q, "k", "waiting")
		q.Add("k")
		if item := get(t, q); item.Attempts != 1 {
			t.Errorf("%+v", item)
		}
		// During the run, the same.
		q.Add("k", reconcile.AddOptions{KeepBackoff: true})
		q.Retry("k", nil)
		expectPhase(t, q, "k", "waiting")
		q.Add("k")
		get(t, q)
		q.Add("k")
		q.Retry("k", nil)
		expectPhase(t, q, "k", "ready")
		get(t, q)
		q.Add("k", reconcile.AddOptions{KeepBackoff: true})
		q.Done("k") // a success: the event is news to it
		expectPhase(t, q, "k", "ready")
	})
}

func TestQueueAgain(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		q.Add("k")
		get(t, q)
		q.Retry("k", errors.New("once"))
		time.Sleep(time.Hour)
		get(t, q)
		q.Again("k", time.Hour)
		s, _ := q.Explain("k")
		if s.Phase != reconcile.PhaseWaiting || time.Until(s.Until) != time.Hour || s.Attempts != 0 || s.LastError != nil {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		if item := get(t, q); cmp.Diff(item.Causes, []reconcile.Cause{{Reason: "again"}}) != "" {
			t.Errorf("%+v", item)
		}
		q.AddAfter("k", time.Minute)
		q.Again("k", time.Hour)
		time.Sleep(time.Minute)
		get(t, q)
		q.Again("k", -1)
		expectPhase(t, q, "k", "ready")
	})
}

func TestQueueRateLimited(t *testing.T) {
	opts := reconcile.QueueOptions[string]{Backoff: reconcile.Backoff{Initial: time.Millisecond}, Rate: 10, Burst: 3}
	bubble(t, opts, func(t *testing.T, q *reconcile.Queue[string]) {
		start := time.Now()
		for n := range 10 {
			q.AddRateLimited(fmt.Sprint(n))
		}
		for n := range 10 {
			if _, err := q.Get(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := max(time.Duration(n-2)*100*time.Millisecond, 0)
			if took := time.Since(start); took < want || took > want+time.Millisecond {
				t.Errorf("key %d was ready after %v, want %v", n, took, want)
			}
		}
	})
}

func TestQueuePriorities(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		add := func(key string, p reconcile.Priority) { q.Add(key, reconcile.AddOptions{Priority: p}) }
		add("low", reconcile.PriorityLow)
		add("normal", 0)
		add("lowest", -100)
		add("high", reconcile.PriorityHigh)
		add("highest", 100)
		add("raised", reconcile.PriorityLow)
		add("raised", reconcile.PriorityHigh)
		add("high", reconcile.PriorityLow)
		var got []string
		for q.Len() > 0 {
			got = append(got, get(t, q).Key)
		}
		if want := "high highest raised normal low lowest"; strings.Join(got, " ") != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestQueueTenants(t *testing.T) {
	opts := reconcile.QueueOptions[string]{Tenant: func(k string) string { return k[:1] }}
	bubble(t, opts, func(t *testing.T, q *reconcile.Queue[string]) {
		for n := range 5 {
			q.Add(fmt.Sprint("a", n))
		}
		for _, k := range []string{"b0", "c0", "b1", "d0"} {
			q.Add(k)
		}
		var got []string
		for q.Len() > 0 {
			got = append(got, get(t, q).Key)
		}
		if want := "a0 b0 c0 d0 a1 b1 a2 a3 a4"; strings.Join(got, " ") != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestQueueCauses(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		cause := func(n, revision int) reconcile.Cause {
			return reconcile.Cause{Reason: "modified", Key: store.NewKey("ns", fmt.Sprint(n)), Revision: uint64(revision)}
		}
		for revision := range 10 {
			for n := range 10 {
				q.Add("k", reconcile.AddOptions{Cause: cause(n, revision)})
			}
		}
		item := get(t, q)
		var want []reconcile.Cause
		for n := range 8 {
			want = append(want, cause(n, 9))
		}
		if diff := cmp.Diff(want, item.Causes); diff != "" || item.MoreCauses != 20 {
			t.Errorf("more: %d, want 20; causes (-want +got):\n%s", item.MoreCauses, diff)
		}
		q.Add("k", reconcile.AddOptions{Cause: cause(99, 1)})
		s, _ := q.Explain("k")
		if diff := cmp.Diff(want, s.Causes); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]reconcile.Cause{cause(99, 1)}, s.Pending); diff != "" {
			t.Error(diff)
		}
		q.Done("k")
		if item := get(t, q); !slices.Equal(item.Causes, s.Pending) || item.MoreCauses != 0 {
			t.Errorf("%+v", item)
		}
		q.Retry("k", nil)
		time.Sleep(time.Second)
		if item := get(t, q); !slices.Equal(item.Causes, append(s.Pending, reconcile.Cause{Reason: "retry"})) {
			t.Errorf("%+v", item)
		}
	})
}

func TestQueueShutDown(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		q.Add("a")
		q.Add("b")
		q.AddAfter("c", time.Second)
		get(t, q)
		q.Add("a")
		q.ShutDown()
		q.ShutDown()
		q.Add("d")
		expectPhase(t, q, "c", "")
		expectPhase(t, q, "d", "")
		if got := get(t, q).Key; got != "b" {
			t.Errorf("got %q, want b", got)
		}
		var workers sync.WaitGroup
		var runs, ends int
		var mu sync.Mutex
		for range 3 {
			workers.Go(func() {
				for {
					item, err := q.Get(context.Background())
					mu.Lock()
					if err != nil {
						if err != reconcile.ErrShutDown {
							t.Errorf("Get: %v", err)
						}
						ends++
						mu.Unlock()
						return
					}
					if item.Key != "a" {
						t.Errorf("got %q", item.Key)
					}
					runs++
					mu.Unlock()
					q.Done(item.Key)
				}
			})
		}
		synctest.Wait()
		if runs != 0 || ends != 0 {
			t.Errorf("%d runs, %d ends while a is running and was added again", runs, ends)
		}
		q.Retry("b", errors.New("too late"))
		q.Done("a")
		workers.Wait()
		if runs != 1 {
			t.Errorf("a ran %d times after ShutDown, want 1", runs)
		}
		if _, err := q.Get(t.Context()); err != reconcile.ErrShutDown {
			t.Errorf("Get: %v", err)
		}
	})
}

func TestQueueStop(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		q.Add("a")
		q.Add("b")
		get(t, q)
		q.Add("a")
		q.Stop()
		q.Stop()
		if _, err := q.Get(t.Context()); err != reconcile.ErrShutDown {
			t.Errorf("Get: %v", err)
		}
		q.Done("a")
		if c := q.Counts(); c != (reconcile.Counts{}) {
			t.Errorf("%+v", c)
		}
	})
}

func TestQueueGetEndsWithContext(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		done := make(chan error)
		go func() {
			_, err := q.Get(ctx)
			done <- err
		}()
		synctest.Wait()
		cancel(cause)
		if err := <-done; err != cause {
			t.Errorf("Get: %v, want %v", err, cause)
		}
		q.Add("k")
		if _, err := q.Get(ctx); err != cause {
			t.Errorf("Get: %v, want %v", err, cause)
		}
		get(t, q)
	})
}

func TestQueueMisuse(t *testing.T) {
	q := reconcile.NewQueue(reconcile.QueueOptions[float64]{Tenant: func(f float64) string {
		if f == 13 {
			panic("unlucky")
		}
		return ""
	}})
	q.Add(1)
	if _, err := q.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.Done(1)
	for name, test := range map[string]struct {
		do   func()
		want string
	}{
		"done twice":    {func() { q.Done(1) }, "reconcile: Queue.Done(1): the key is not running"},
		"retry unheard": {func() { q.Retry(2, nil) }, "reconcile: Queue.Retry(2): the key is not running"},
		"again ready":   {func() { q.Add(3); q.Again(3, 0) }, "reconcile: Queue.Again(3): the key is not running"},
		"park waiting":  {func() { q.AddAfter(4, time.Hour); q.Park(4, nil) }, "reconcile: Queue.Park(4): the key is not running"},
		"NaN":           {func() { q.Add(math.NaN()) }, "not equal to itself"},
		"two options":   {func() { q.Add(5, reconcile.AddOptions{}, reconcile.AddOptions{}) }, "more than one options value"},
		"tenant panics": {func() { q.Add(13) }, "unlucky"},
		"rate":          {func() { reconcile.NewQueue(reconcile.QueueOptions[int]{Rate: math.NaN()}) }, "Rate is not a number"},
		"burst":         {func() { reconcile.NewQueue(reconcile.QueueOptions[int]{Burst: -1}) }, "Burst is -1"},
		"attempts":      {func() { reconcile.NewQueue(reconcile.QueueOptions[int]{MaxAttempts: -1}) }, "MaxAttempts is -1"},
		"backoff":       {func() { reconcile.NewQueue(reconcile.QueueOptions[int]{Backoff: reconcile.Backoff{Initial: -1}}) }, "Backoff.Initial is -1ns"},
		"backoff bounds": {func() {
			reconcile.NewQueue(reconcile.QueueOptions[int]{Backoff: reconcile.Backoff{Initial: 2, Max: 1}})
		}, "Backoff.Max is 1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, test.want) {
					t.Errorf("panic: %v\nwant %q", got, test.want)
				}
			}()
			test.do()
		})
	}
	// The queue works on as before.
	if c := q.Counts(); c != (reconcile.Counts{Waiting: 1, Ready: 1}) {
		t.Errorf("%+v", c)
	}
}

func TestQueueUnhashableKey(t *testing.T) {
	q := reconcile.NewQueue(reconcile.QueueOptions[any]{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a slice was taken as a key")
			}
		}()
		q.Add([]int{1})
	}()
	q.Add("k")
	get(t, q)
}
