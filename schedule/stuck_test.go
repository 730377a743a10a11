// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/schedule"
)

// everywhere is a plugin with every extension point that the scheduler waits for; a hook
// is called at each.
type everywhere struct {
	hook func(ctx context.Context, point string, pod *schedule.Pod) *schedule.Status
}

func (everywhere) Name() string { return "mine" }

func (e everywhere) PreEnqueue(ctx context.Context, p *schedule.Pod) *schedule.Status {
	return e.hook(ctx, "PreEnqueue", p)
}
func (e everywhere) PreFilter(c *schedule.Cycle) *schedule.Status {
	return e.hook(c.Context(), "PreFilter", c.Pod)
}
func (e everywhere) Filter(c *schedule.Cycle, _ schedule.NodeInfo) *schedule.Status {
	return e.hook(c.Context(), "Filter", c.Pod)
}
func (e everywhere) PostFilter(c *schedule.Cycle, _ *schedule.Diagnosis) (*schedule.PostFilterResult, *schedule.Status) {
	return nil, e.hook(c.Context(), "PostFilter", c.Pod)
}
func (e everywhere) PreScore(c *schedule.Cycle) *schedule.Status {
	return e.hook(c.Context(), "PreScore", c.Pod)
}
func (e everywhere) Score(c *schedule.Cycle, _ schedule.NodeInfo) (int64, *schedule.Status) {
	return 0, e.hook(c.Context(), "Score", c.Pod)
}
func (e everywhere) NormalizeScore(c *schedule.Cycle, _ *schedule.Rows, _ []int64) *schedule.Status {
	return e.hook(c.Context(), "NormalizeScore", c.Pod)
}
func (e everywhere) Reserve(ctx context.Context, _ *schedule.State, p *schedule.Pod, _ *schedule.Node) *schedule.Status {
	return e.hook(ctx, "Reserve", p)
}
func (e everywhere) Unreserve(ctx context.Context, _ *schedule.State, p *schedule.Pod, _ *schedule.Node) {
	e.hook(ctx, "Unreserve", p)
}
func (e everywhere) Permit(ctx context.Context, _ *schedule.State, p *schedule.Pod, _ *schedule.Node) (*schedule.Status, time.Duration) {
	return e.hook(ctx, "Permit", p), 0
}
func (e everywhere) PreBind(ctx context.Context, _ *schedule.State, p *schedule.Pod, _ *schedule.Node) *schedule.Status {
	return e.hook(ctx, "PreBind", p)
}
func (e everywhere) Bind(ctx context.Context, _ *schedule.State, p *schedule.Pod, _ *schedule.Node) *schedule.Status {
	if st := e.hook(ctx, "Bind", p); st != nil {
		return st
	}
	return schedule.NewStatus(schedule.Skip)
}
func (e everywhere) PostBind(ctx context.Context, _ *schedule.State, p *schedule.Pod, _ *schedule.Node) {
	e.hook(ctx, "PostBind", p)
}

// inCycle are the points at which nothing is reserved or bound yet.
var inCycle = []string{"PreFilter", "Filter", "PostFilter", "PreScore", "Score", "NormalizeScore"}

// Whatever point a plugin is stuck at, without heeding its context: the error names
// plugin, pod and node, other pods are placed, and the goroutine is on the list until
// the plugin returns.
func TestStuckPlugins(t *testing.T) {
	for _, point := range append([]string{"PreEnqueue", "Reserve", "Unreserve", "Permit", "PreBind", "Bind", "PostBind"}, inCycle...) {
		t.Run(point, func(t *testing.T) {
			var release chan struct{}
			var mu sync.Mutex
			stuck := false // a second try goes well
			var calls []string
			o := withPlugin(everywhere{hook: func(_ context.Context, at string, p *schedule.Pod) *schedule.Status {
				if !bad(p) {
					return nil
				}
				mu.Lock()
				calls = append(calls, at)
				first := at == point && !stuck
				stuck = stuck || first
				mu.Unlock()
				switch {
				case first:
					<-release
				case at == "Filter" && point == "PostFilter":
					return schedule.Reject("not here")
				case at == "Permit" && point == "Unreserve":
					return schedule.Reject("not now")
				}
				return nil
			}})
			o.PluginTimeout, o.BindTimeout, o.BindWorkers = 3*time.Second, 8*time.Second, 1
			o.Evict = func(context.Context, *schedule.Pod, *schedule.Pod) error { return nil }
			run(t, o, func(w *world) {
				release = make(chan struct{})
				w.node("n", 8)
				w.pod("before", 1)
				synctest.Wait()
				w.pod("bad", 1)
				time.Sleep(30 * time.Second)
				node := " on node n: "
				if slices.Contains([]string{"PreEnqueue", "PreFilter", "PostFilter", "PreScore", "NormalizeScore"}, point) {
					node = ": "
				}
				w.wantFailed("bad", "plugin mine: "+point+" of pod default/bad"+node+"still running after")
				if stuck := w.Stuck(); len(stuck) == 0 || stuck[0].Point != point || !errors.Is(stuck[0], context.DeadlineExceeded) {
					w.Errorf("Stuck() = %v, want the one at %s", stuck, point)
				}
				w.pod("after", 2)
				time.Sleep(10 * time.Second)
				if got := w.placed()["after"]; got != "n" {
					w.Errorf("the next pod is on %q, want n", got)
				}
				if err := w.RemovePod("default/bad"); err != nil && !errors.Is(err, schedule.ErrNotFound) {
					w.Error(err)
				}
				close(release)
				time.Sleep(30 * time.Second)
				if stuck := w.Stuck(); len(stuck) > 0 {
					w.Errorf("Stuck() = %v after all have returned", stuck)
				}
				if n, _ := w.Fork().NodeInfo("n"); n.Requested(schedule.CPU) != 3000 { // before and after
					w.Errorf("%d of CPU requested in the end, want 3000", n.Requested(schedule.CPU))
				}
				mu.Lock()
				defer mu.Unlock()
				if point == "Reserve" && !slices.Contains(calls, "Unreserve") {
					w.Errorf("calls %q: want an Unreserve once Reserve has returned", calls)
				}
			})
		})
	}
}

// A plugin that heeds its context returns in time and leaves nothing behind.
func TestContextOfPlugins(t *testing.T) {
	for _, point := range append([]string{"PreEnqueue", "Reserve", "Permit", "PreBind", "Bind"}, inCycle...) {
		t.Run(point, func(t *testing.T) {
			waited := false
			o := withPlugin(everywhere{hook: func(ctx context.Context, at string, p *schedule.Pod) *schedule.Status {
				if bad(p) && at == point && !waited {
					waited = true
					<-ctx.Done()
					return schedule.Fail(ctx.Err())
				}
				if bad(p) && at == "Filter" && point == "PostFilter" {
					return schedule.Reject("not here")
				}
				return nil
			}})
			o.PluginTimeout, o.BindTimeout = 3*time.Second, 3*time.Second
			o.Evict = func(context.Context, *schedule.Pod, *schedule.Pod) error { return nil }
			run(t, o, func(w *world) {
				w.node("n", 8)
				w.pod("bad", 1)
				time.Sleep(10 * time.Second)
				w.wantFailed("bad", "plugin mine: "+point+" of pod default/bad")
				time.Sleep(20 * time.Second)
				if stuck := w.Stuck(); len(stuck) > 0 {
					w.Errorf("Stuck() = %v", stuck)
				}
				w.must(w.RemovePod("default/bad"))
				w.pod("good", 1)
				time.Sleep(10 * time.Second)
				if got := w.placed()["good"]; got != "n" {
					w.Errorf("the next pod is on %q, want n", got)
				}
			})
		})
	}
}

// A plugin that panics at any point is named, and the other pods are placed.
func TestPanicsEverywhere(t *testing.T) {
	for _, point := range append([]string{"PreEnqueue", "Reserve", "Permit", "PreBind", "Bind"}, inCycle...) {
		t.Run(point, func(t *testing.T) {
			o := withPlugin(everywhere{hook: func(_ context.Context, at string, p *schedule.Pod) *schedule.Status {
				if bad(p) && at == point {
					panic("oh dear")
				}
				if bad(p) && at == "Filter" && point == "PostFilter" {
					return schedule.Reject("not here")
				}
				return nil
			}})
			o.Evict = func(context.Context, *schedule.Pod, *schedule.Pod) error { return nil }
			run(t, o, func(w *world) {
				w.node("n", 8)
				w.pod("bad", 1)
				w.pod("good", 1)
				time.Sleep(time.Second)
				w.wantFailed("bad", "plugin mine: "+point+" of pod default/bad")
				w.wantFailed("bad", "panic: oh dear")
				w.want("good@n")
			})
		})
	}
}

// quick has the points that are asked too often to be watched.
type quick struct{ schedule.PrioritySort }

func (quick) Name() string                               { return "quick" }
func (quick) Less(a, b *schedule.QueuedPod) bool         { panic("less") }
func (quick) PreFilter(*schedule.Cycle) *schedule.Status { return nil }
func (quick) QueueingHints() []schedule.QueueingHint {
	return []schedule.QueueingHint{{On: schedule.NodeAdded, Worth: func(*schedule.Pod, schedule.Event) bool { panic("worth") }}}
}
func (quick) Filter(_ *schedule.Cycle, n schedule.NodeInfo) *schedule.Status {
	if n.Node().Name == "bad" {
		return schedule.Reject("bad")
	}
	return nil
}
func (quick) LocalKey(p *schedule.Pod) string {
	if bad(p) {
		panic("key")
	}
	return ""
}

func TestPanicsOfQuickPoints(t *testing.T) {
	o := schedule.Options{Profiles: []schedule.Profile{{Plugins: schedule.With(schedule.Without(schedule.DefaultPlugins(), "PrioritySort"), quick{})}}}
	run(t, o, func(w *world) {
		w.node("bad", 8)
		w.pod("a", 1)
		w.pod("b", 1)
		time.Sleep(2 * time.Second)
		w.node("n", 8)
		time.Sleep(2 * time.Second)
		w.want("a@n", "b@n")
		w.mu.Lock()
		all := strings.Join(append(slices.Clone(w.failed["a"]), w.failed["b"]...), "\n")
		w.mu.Unlock()
		for _, part := range []string{"plugin quick: Less of pod default/", "plugin quick: Worth of pod default/"} {
			if !strings.Contains(all, part) {
				w.Errorf("failures %q, want one with %q", all, part)
			}
		}
		if err := w.AddPod(pod("bad", 1)); err == nil || !strings.Contains(err.Error(), "plugin quick: LocalKey of pod default/bad: panic: key") {
			w.Errorf("AddPod returned %v", err)
		}
	})
}

// Run returns though a plugin never does, and says which.
func TestRunLeavesStuckPluginsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s, err := schedule.New(schedule.Options{
			BindTimeout: 5 * time.Second,
			Binder: schedule.BinderFunc(func(context.Context, *schedule.Pod, *schedule.Node) error {
				<-release
				return nil
			}),
		})
		must(t, err)
		must(t, s.AddNode(node("n", 8)))
		must(t, s.AddPod(pod("a", 1)))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err = s.Run(ctx)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "plugin DefaultBinder: Bind of pod default/a on node n: still running") {
			t.Errorf("Run returned %v", err)
		}
		close(release)
		synctest.Wait()
		if stuck := s.Stuck(); len(stuck) > 0 {
			t.Errorf("Stuck() = %v", stuck)
		}
	})
}

// A plugin that gets stuck during a trial of preemption, when pods are off their nodes
// for a moment, must not leave it at that.
func TestStuckDuringTrial(t *testing.T) {
	var release chan struct{}
	o := withPlugin(plugin{filter: func(p *schedule.Pod, _ *schedule.Node) *schedule.Status {
		if bad(p) { // fits only while low is off for the trial
			<-release
		}
		return nil
	}})
	o.PluginTimeout = 3 * time.Second
	o.Evict = func(context.Context, *schedule.Pod, *schedule.Pod) error { return nil }
	run(t, o, func(w *world) {
		release = make(chan struct{})
		w.node("n", 4)
		w.pod("low", 3, on("n"))
		w.pod("bad", 3, func(p *schedule.Pod) { p.Priority = 10 })
		time.Sleep(3500 * time.Millisecond)
		w.wantFailed("bad", "plugin mine: Filter of pod default/bad on node n: still running after 3s")
		w.must(w.RemovePod("default/bad"))
		if n, _ := w.Fork().NodeInfo("n"); n.Requested(schedule.CPU) != 3000 {
			w.Errorf("%d of CPU requested after the trial, want 3000", n.Requested(schedule.CPU))
		}
		w.pod("small", 1)
		w.pod("large", 2)
		time.Sleep(time.Second)
		w.want("small@n")
		w.must(w.RemovePod("default/low"))
		time.Sleep(10 * time.Second)
		w.want("small@n", "large@n")
		close(release)
		synctest.Wait()
	})
}
