// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/schedule"
)

// gang has three members of 2 CPUs come, on nodes of 4 CPUs.
func (w *world) gang() {
	w.Helper()
	w.node("a", 4)
	w.node("b", 4)
	w.must(w.SetGroup(schedule.Group{Namespace: "default", Name: "g", MinMember: 3}))
	for i := range 3 {
		w.pod(fmt.Sprint("g", i), 2, func(p *schedule.Pod) { p.Group = "g" })
	}
}

func (w *world) requested() (sum int64) {
	f := w.Fork()
	for n := range f.Nodes() {
		sum += n.Requested(schedule.CPU)
	}
	return sum
}

// What happens to one member before the first is bound happens to all: none is bound,
// nothing stays reserved, and they are tried again together.
func TestGangFailsAsAWhole(t *testing.T) {
	for _, point := range []string{"Reserve", "Permit", "PreBind"} {
		t.Run(point, func(t *testing.T) {
			var failing atomic.Bool
			var reserved atomic.Int64
			failing.Store(true)
			o := withPlugin(everywhere{hook: func(_ context.Context, at string, p *schedule.Pod) *schedule.Status {
				switch at {
				case "Reserve":
					reserved.Add(1)
				case "Unreserve":
					reserved.Add(-1)
				}
				if at == point && p.Name == "g2" && failing.Load() {
					return schedule.Reject("not this one")
				}
				return nil
			}})
			run(t, o, func(w *world) {
				w.gang()
				time.Sleep(500 * time.Millisecond)
				w.want()
				w.wantFailed("g2", "plugin mine: "+point+" of pod default/g2")
				w.wantFailed("g0", "group g is tried again as a whole: plugin mine: "+point+" of pod default/g2")
				if got := w.requested(); got != 0 || reserved.Load() != 0 {
					w.Errorf("%d of CPU requested and %d pods reserved after the failure, want none", got, reserved.Load())
				}
				failing.Store(false)
				time.Sleep(time.Minute)
				if got := w.placed(); len(got) != 3 || reserved.Load() != 3 {
					w.Errorf("%v placed and %d reserved, want all three", got, reserved.Load())
				}
			})
		})
	}
}

// A failure of the first binding leaves nobody bound.
func TestGangFirstBindingFails(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		tries := 0
		w.fail = func(*schedule.Pod) error {
			if tries++; tries == 1 {
				return errors.New("the store is down")
			}
			return nil
		}
		w.gang()
		time.Sleep(500 * time.Millisecond)
		w.want()
		if got := w.requested(); got != 0 {
			w.Errorf("%d of CPU requested after the failure, want none", got)
		}
		time.Sleep(time.Minute)
		if got := w.placed(); len(got) != 3 || tries != 4 {
			w.Errorf("%v placed after %d tries, want all three after 4", got, tries)
		}
	})
}

// Once one is bound there is no way back: the others keep their room, and their binding
// is tried again there until it succeeds.
func TestGangLaterBindingFails(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		var failed string
		nodes := map[string]bool{}
		w.fail = func(p *schedule.Pod) error {
			if failed == "" && len(w.on) == 1 {
				failed = p.Name
			}
			if p.Name == failed && time.Since(p.Created) < 20*time.Second {
				return errors.New("the store is down")
			}
			return nil
		}
		w.node("a", 4)
		w.node("b", 4)
		w.must(w.SetGroup(schedule.Group{Namespace: "default", Name: "g", MinMember: 3}))
		start := time.Now()
		for i := range 3 {
			w.pod(fmt.Sprint("g", i), 2, func(p *schedule.Pod) { p.Group, p.Created = "g", start })
		}
		time.Sleep(5 * time.Second)
		if got := w.placed(); len(got) != 2 {
			w.Errorf("%v placed, want two", got)
		}
		w.pod("thief", 4) // 4 of 8 CPUs are taken, 2 are kept, and no node has 4 left
		time.Sleep(5 * time.Second)
		if got := w.requested(); got != 6000 {
			w.Errorf("%d of CPU requested while a member waits, want 6000", got)
		}
		time.Sleep(time.Minute)
		got := w.placed()
		for _, n := range got {
			nodes[n] = true
		}
		if len(got) != 3 || got["thief"] != "" || got[failed] == "" {
			w.Errorf("%v placed, want all three members", got)
		}
		w.wantFailed(failed, "the store is down")
	})
}

// A member whose binding is tried again can be removed.
func TestGangRemoveWhileRebinding(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		w.fail = func(p *schedule.Pod) error {
			if p.Name == "g1" {
				return errors.New("the store is down")
			}
			return nil
		}
		w.gang()
		time.Sleep(5 * time.Second)
		w.must(w.RemovePod("default/g1"))
		time.Sleep(time.Minute)
		if got := w.requested(); got != 4000 || len(w.placed()) != 2 {
			w.Errorf("%v placed, %d of CPU requested, want two pods", w.placed(), got)
		}
	})
}

// atomicBinder binds groups at once.
type atomicBinder struct {
	schedule.BinderFunc
	mu     sync.Mutex
	groups [][]schedule.Binding
	fail   int
	done   func(schedule.Binding) error
}

func (b *atomicBinder) BindGroup(_ context.Context, list []schedule.Binding) error {
	b.mu.Lock()
	b.groups = append(b.groups, list)
	tries := len(b.groups)
	b.mu.Unlock()
	if tries <= b.fail {
		return errors.New("conflict")
	}
	for _, x := range list {
		if err := b.done(x); err != nil {
			return err
		}
	}
	return nil
}

func TestGangIsBoundAtOnce(t *testing.T) {
	var w *world
	b := &atomicBinder{fail: 2, BinderFunc: func(_ context.Context, p *schedule.Pod, _ *schedule.Node) error {
		return fmt.Errorf("%s is bound alone", p)
	}}
	b.done = func(x schedule.Binding) error { return w.bind(context.Background(), x.Pod, x.Node) }
	run(t, schedule.Options{Binder: b}, func(x *world) {
		w = x
		w.gang()
		time.Sleep(2500 * time.Millisecond)
		w.want()
		b.mu.Lock()
		if len(b.groups) != 2 {
			w.Errorf("%d tries, want 2", len(b.groups))
		}
		b.mu.Unlock()
		w.wantFailed("g0", "plugin DefaultBinder: BindGroup of pod default/g0 on node")
		w.wantFailed("g0", "conflict")
		time.Sleep(time.Minute)
		got := w.placed()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(got) != 3 || len(b.groups) != 3 || len(b.groups[2]) != 3 {
			w.Errorf("%v placed by %d tries, want three pods by the third", got, len(b.groups))
		}
	})
}

// A group is bound when all members are permitted, and not at all if one is refused, or
// goes.
func TestGangWaitsForPermission(t *testing.T) {
	for _, end := range []string{"allowed", "refused", "removed", "timeout"} {
		t.Run(end, func(t *testing.T) {
			once := map[string]bool{}
			o := withPlugin(waiter{func(p *schedule.Pod) time.Duration {
				if once[p.Name] || p.Name == "g0" {
					return 0
				}
				once[p.Name] = true
				return 10 * time.Second
			}})
			run(t, o, func(w *world) {
				w.gang()
				synctest.Wait()
				w.want()
				waiting := w.Waiting()
				slices.SortFunc(waiting, func(a, b *schedule.WaitingPod) int { return len(a.Pod().Name) - len(b.Pod().Name) })
				if len(waiting) != 2 {
					w.Fatalf("%d members wait, want 2", len(waiting))
				}
				waiting[0].Allow("waiter")
				synctest.Wait()
				w.want() // the other still waits
				switch end {
				case "allowed":
					waiting[1].Allow("waiter")
				case "refused":
					waiting[1].Reject("waiter", "no")
				case "removed":
					w.must(w.RemovePod("default/" + waiting[1].Pod().Name))
				case "timeout":
					time.Sleep(10*time.Second + time.Millisecond)
				}
				synctest.Wait()
				if end == "allowed" {
					if got := w.placed(); len(got) != 3 {
						w.Errorf("%v placed, want all three", got)
					}
					return
				}
				w.want()
				if got := w.requested(); got != 0 {
					w.Errorf("%d of CPU requested, want none", got)
				}
				if end == "removed" {
					w.pod("g9", 2, func(p *schedule.Pod) { p.Group = "g" })
				}
				time.Sleep(time.Minute)
				if got := w.placed(); len(got) != 3 {
					w.Errorf("%v placed, want three", got)
				}
			})
		})
	}
}

type waiter struct {
	wait func(*schedule.Pod) time.Duration
}

func (waiter) Name() string { return "waiter" }

func (p waiter) Permit(_ context.Context, _ *schedule.State, pod *schedule.Pod, _ *schedule.Node) (*schedule.Status, time.Duration) {
	if d := p.wait(pod); d > 0 {
		return schedule.NewStatus(schedule.Wait), d
	}
	return nil, 0
}
