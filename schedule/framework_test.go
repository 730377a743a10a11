// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/schedule"
)

// The extension points, one by one, from the scheduler's side.

// points records what the framework asks of a plugin.
type points struct{ calls *[]string }

func (points) Name() string { return "points" }

func (p points) note(s *schedule.State, point string) {
	n, _ := s.Get("count").(int)
	s.Set("count", n+1)
	*p.calls = append(*p.calls, fmt.Sprint(point, n))
}

func (p points) PreFilter(c *schedule.Cycle) *schedule.Status {
	p.note(c.State(), "PreFilter")
	c.Narrow("b", "c", "d", "nowhere")
	c.Narrow("a", "b", "c")
	return nil
}

func (p points) Filter(c *schedule.Cycle, n schedule.NodeInfo) *schedule.Status {
	p.note(c.State(), "Filter@"+n.Node().Name+"-")
	return nil
}

func (p points) PreScore(c *schedule.Cycle) *schedule.Status {
	p.note(c.State(), fmt.Sprintf("PreScore:%d/%d-", c.Feasible().Len(), c.Nodes()))
	return nil
}

func (p points) Score(c *schedule.Cycle, n schedule.NodeInfo) (int64, *schedule.Status) {
	return map[string]int64{"b": -7, "c": 1000}[n.Node().Name], nil
}

func (p points) NormalizeScore(c *schedule.Cycle, rows *schedule.Rows, scores []int64) *schedule.Status {
	p.note(c.State(), "NormalizeScore")
	for row := range rows.All() {
		if scores[row] > 0 {
			scores[row] = schedule.MaxScore
		} else {
			scores[row] = schedule.MinScore
		}
	}
	return nil
}

func (p points) Reserve(_ context.Context, s *schedule.State, _ *schedule.Pod, n *schedule.Node) *schedule.Status {
	p.note(s, "Reserve@"+n.Name+"-")
	return nil
}
func (p points) Unreserve(_ context.Context, s *schedule.State, _ *schedule.Pod, _ *schedule.Node) {
	p.note(s, "Unreserve")
}
func (p points) Permit(_ context.Context, s *schedule.State, _ *schedule.Pod, _ *schedule.Node) (*schedule.Status, time.Duration) {
	p.note(s, "Permit")
	return nil, 0
}
func (p points) PreBind(_ context.Context, s *schedule.State, _ *schedule.Pod, _ *schedule.Node) *schedule.Status {
	p.note(s, "PreBind")
	return nil
}
func (p points) Bind(_ context.Context, s *schedule.State, _ *schedule.Pod, _ *schedule.Node) *schedule.Status {
	p.note(s, "Bind")
	return schedule.NewStatus(schedule.Skip)
}
func (p points) PostBind(_ context.Context, s *schedule.State, _ *schedule.Pod, _ *schedule.Node) {
	p.note(s, "PostBind")
}

// The points are asked in Kubernetes' order, share the pod's state, and PreFilter
// narrows the choice to the nodes named each time.
func TestPointsInOrder(t *testing.T) {
	var calls []string
	run(t, withPlugin(points{&calls}), func(w *world) {
		for _, name := range []string{"a", "b", "c", "d"} {
			w.node(name, 4)
		}
		w.pod("p", 1)
		w.want("p@c")
		want := []string{
			"PreFilter0", "Filter@b-1", "Filter@c-2", "PreScore:2/4-3", "NormalizeScore4",
			"Reserve@c-5", "Permit6", "PreBind7", "Bind8", "PostBind9",
		}
		if !slices.Equal(calls, want) {
			w.Errorf("calls\n%q, want\n%q", calls, want)
		}
	})
}

// A pod gets the profile that it names, with its plugins and weights.
func TestProfiles(t *testing.T) {
	o := schedule.Options{Profiles: []schedule.Profile{
		{},
		{Name: "packing", Plugins: schedule.With(schedule.DefaultPlugins(), schedule.BinPacking()), Weights: map[string]int64{"NodeResourcesBalancedAllocation": 0}},
		{Name: "anywhere", Plugins: []schedule.Plugin{schedule.NodeName{}}},
	}}
	run(t, o, func(w *world) {
		w.node("empty", 8)
		w.node("full", 8)
		w.pod("there", 4, on("full"))
		w.pod("spread", 1)
		w.pod("packed", 1, func(p *schedule.Pod) { p.SchedulerName = "packing" })
		synctest.Wait()
		w.want("spread@empty", "packed@full")
		w.pod("huge", 100, func(p *schedule.Pod) { p.SchedulerName = "anywhere" })
		if got := w.placed()["huge"]; got == "" {
			w.Error("a profile without NodeResourcesFit did not place a huge pod")
		}
		if err := w.AddPod(pod("lost", 1, func(p *schedule.Pod) { p.SchedulerName = "unknown" })); !errors.Is(err, schedule.ErrNotFound) {
			w.Errorf("AddPod with an unknown profile: %v, want ErrNotFound", err)
		}
	})
}

type shortestName struct{}

func (shortestName) Name() string { return "shortestName" }
func (shortestName) Less(a, b *schedule.QueuedPod) bool {
	return len(a.Pod.Name) < len(b.Pod.Name)
}

func TestQueueSort(t *testing.T) {
	o := schedule.Options{Profiles: []schedule.Profile{{Plugins: schedule.With(schedule.Without(schedule.DefaultPlugins(), "PrioritySort"), shortestName{})}}}
	run(t, o, func(w *world) {
		for _, name := range []string{"ccc", "bb", "a", "dddd"} {
			w.pod(name, 4)
		}
		synctest.Wait()
		w.node("n", 8)
		time.Sleep(time.Minute)
		w.want("a@n", "bb@n")
	})
}

// counting is a node-local plugin: it is asked again only about nodes that changed.
type counting struct{ asked *int }

func (counting) Name() string                    { return "counting" }
func (counting) LocalKey(p *schedule.Pod) string { return fmt.Sprint(p.Object) }
func (c counting) Filter(cy *schedule.Cycle, n schedule.NodeInfo) *schedule.Status {
	*c.asked++
	if cy.Pod.Object == n.Node().Object {
		return nil
	}
	return schedule.Reject("node(s) were of another kind")
}

func TestNodeLocalPlugin(t *testing.T) {
	asked := 0
	c, err := schedule.NewCluster(1, schedule.Profile{Plugins: schedule.With(schedule.DefaultPlugins(), counting{&asked})})
	must(t, err)
	for i := range 100 {
		must(t, c.AddNode(node(fmt.Sprint("n", i), 8, func(n *schedule.Node) { n.Object = i % 2 })))
	}
	place := func(name string, kind int) string {
		t.Helper()
		d, err := c.Place(pod(name, 1, func(p *schedule.Pod) { p.Object = kind }))
		must(t, err)
		if d.Node.Object != kind || d.Feasible != 50 {
			t.Errorf("%s is on %s, %d feasible; want a node of kind %d, 50 feasible", name, d.Node.Name, d.Feasible, kind)
		}
		return d.Node.Name
	}
	place("a", 0) // a new kind: all nodes, and once more when it is seen again
	place("b", 0)
	if asked != 200 {
		t.Errorf("asked %d times, want 200", asked)
	}
	asked = 0
	place("c", 0)
	place("d", 0)
	if asked != 2 {
		t.Errorf("asked %d times about pods of a known kind, want 2: one node changed each time", asked)
	}
	place("e", 1) // same facts, another key
}

// watchful keeps counts of its own, which a trial must keep up to date.
type watchful struct{ calls *[]string }

func (watchful) Name() string                               { return "watchful" }
func (watchful) PreFilter(*schedule.Cycle) *schedule.Status { return nil }
func (watchful) Filter(*schedule.Cycle, schedule.NodeInfo) *schedule.Status {
	return nil
}
func (w watchful) AddPod(_ *schedule.Cycle, p *schedule.Pod, n schedule.NodeInfo) *schedule.Status {
	*w.calls = append(*w.calls, "add "+p.Name+"@"+n.Node().Name)
	return nil
}
func (w watchful) RemovePod(_ *schedule.Cycle, p *schedule.Pod, n schedule.NodeInfo) *schedule.Status {
	*w.calls = append(*w.calls, "remove "+p.Name+"@"+n.Node().Name)
	return nil
}

func TestPreFilterExtensions(t *testing.T) {
	var calls []string
	c, err := schedule.NewCluster(1, schedule.Profile{Plugins: schedule.With(schedule.DefaultPlugins(), watchful{&calls})})
	must(t, err)
	must(t, c.AddNode(node("n", 4)))
	must(t, c.AddPod(pod("low", 4, on("n"))))
	r, err := c.Preempt(pod("high", 2, func(p *schedule.Pod) { p.Priority = 1 }))
	must(t, err)
	if len(r.Victims) != 1 || r.NominatedNode != "n" {
		t.Errorf("Preempt = %+v, want low on n", r)
	}
	if want := []string{"remove low@n", "add low@n", "remove low@n", "add low@n"}; !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}

// A pod that no event has moved is tried again after RetryAfter, and at once on Retry.
func TestRetry(t *testing.T) {
	var open atomic.Bool
	o := withPlugin(plugin{filter: func(*schedule.Pod, *schedule.Node) *schedule.Status {
		if open.Load() {
			return nil
		}
		return schedule.Reject("closed")
	}})
	o.RetryAfter = time.Minute
	run(t, o, func(w *world) {
		w.node("n", 8)
		w.pod("a", 1)
		time.Sleep(20 * time.Second)
		open.Store(true)
		time.Sleep(30 * time.Second)
		w.want()
		w.Retry("another")
		w.want()
		w.Retry("mine")
		w.want("a@n")
		open.Store(false)
		w.pod("b", 1)
		time.Sleep(20 * time.Second)
		open.Store(true)
		time.Sleep(2 * time.Minute)
		w.want("a@n", "b@n")
	})
}

// Which event moves which pod: each waits for something, and only that helps.
func TestQueueingHints(t *testing.T) {
	zone := schedule.LabelZone
	near := schedule.PodAffinityTerm{TopologyKey: zone, Selector: &schedule.Selector{MatchLabels: map[string]string{"app": "db"}}}
	for _, tt := range []struct {
		name string
		pod  func(*schedule.Pod)
		node func(*schedule.Node)
		help func(w *world, n *schedule.Node)
	}{
		{"cordoned", nil, func(n *schedule.Node) { n.Unschedulable = true }, func(w *world, n *schedule.Node) { n.Unschedulable = false; w.must(w.UpdateNode(n)) }},
		{"unready", nil, func(n *schedule.Node) { n.NotReady = true }, func(w *world, n *schedule.Node) { n.NotReady = false; w.must(w.UpdateNode(n)) }},
		{"tainted", nil, func(n *schedule.Node) {
			n.Taints = []schedule.Taint{{Key: "a", Effect: schedule.NoSchedule}}
		}, func(w *world, n *schedule.Node) { n.Taints = nil; w.must(w.UpdateNode(n)) }},
		{"labels", func(p *schedule.Pod) { p.NodeSelector = map[string]string{"disk": "ssd"} }, nil, func(w *world, n *schedule.Node) { n.Labels["disk"] = "ssd"; w.must(w.UpdateNode(n)) }},
		{"resources", func(p *schedule.Pod) { p.Requests.CPU = 9000 }, nil, func(w *world, n *schedule.Node) { n.Allocatable.CPU = 10000; w.must(w.UpdateNode(n)) }},
		{"port", func(p *schedule.Pod) { p.HostPorts = []schedule.HostPort{{Port: 80}} }, nil, func(w *world, n *schedule.Node) { w.must(w.RemovePod("default/port")) }},
		{"affinity", func(p *schedule.Pod) { p.PodAffinity.Required = []schedule.PodAffinityTerm{near} }, nil, func(w *world, n *schedule.Node) { w.pod("db", 1, on("n"), withLabels("app", "db")) }},
		{"anti-affinity", func(p *schedule.Pod) {
			t := near
			t.Selector = &schedule.Selector{MatchLabels: map[string]string{"app": "port"}}
			p.PodAntiAffinity.Required = []schedule.PodAffinityTerm{t}
		}, nil, func(w *world, n *schedule.Node) { w.must(w.RemovePod("default/port")) }},
		{"spread", func(p *schedule.Pod) {
			p.Labels = map[string]string{"app": "port"}
			p.SpreadConstraint = []schedule.SpreadConstraint{{MaxSkew: 1, MinDomains: 2, TopologyKey: zone, Selector: &schedule.Selector{MatchLabels: p.Labels}}}
		}, nil, func(w *world, n *schedule.Node) { w.must(w.RemovePod("default/port")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := schedule.Options{RetryAfter: 1000 * time.Hour}
			run(t, o, func(w *world) {
				make := func() *schedule.Node {
					n := labelled("n", zone, "z")
					if tt.node != nil {
						tt.node(n)
					}
					return n
				}
				w.must(w.AddNode(make()))
				w.pod("port", 1, on("n"), withLabels("app", "port"), func(p *schedule.Pod) { p.HostPorts = []schedule.HostPort{{Port: 80}} })
				w.pod("p", 1, func(p *schedule.Pod) {
					if tt.pod != nil {
						tt.pod(p)
					}
				})
				time.Sleep(time.Hour)
				w.want()
				tt.help(w, make())
				time.Sleep(time.Minute)
				w.want("p@n")
			})
		})
	}
}

// A group can be forgotten while its members wait, and set again; members come and go.
func TestGroupMembersComeAndGo(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		member := func(p *schedule.Pod) { p.Group = "g" }
		w.node("n", 8)
		w.must(w.SetGroup(schedule.Group{Namespace: "default", Name: "g", MinMember: 2}))
		w.pod("g1", 1, member)
		w.RemoveGroup("default", "g")
		w.pod("g2", 1, member)
		time.Sleep(time.Minute)
		w.want()
		w.must(w.RemovePod("default/g2"))
		w.must(w.SetGroup(schedule.Group{Namespace: "default", Name: "g", MinMember: 2}))
		time.Sleep(time.Minute)
		w.want()
		w.pod("g3", 1, member)
		time.Sleep(time.Minute)
		w.want("g1@n", "g3@n")
		if err := w.SetGroup(schedule.Group{Name: "", MinMember: 0}); !errors.Is(err, schedule.ErrInvalid) {
			w.Errorf("SetGroup of nothing: %v, want ErrInvalid", err)
		}
	})
}

// What a pod that waits becomes when it is updated.
func TestUpdateWhileWaiting(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		w.node("n", 4)
		w.pod("p", 9)
		w.wantRefused("p", "0/1 nodes are available: 1 Insufficient cpu.")
		w.must(w.UpdatePod(pod("p", 9, func(p *schedule.Pod) { p.Object = "the same to the scheduler" })))
		w.want()
		w.must(w.UpdatePod(pod("p", 2)))
		w.want("p@n")
		if err := w.UpdatePod(pod("nobody", 1)); !errors.Is(err, schedule.ErrNotFound) {
			w.Errorf("UpdatePod of an unknown pod: %v, want ErrNotFound", err)
		}
		w.must(w.UpdatePod(pod("p", 3, on("n"))))
		if n, _ := w.Fork().NodeInfo("n"); n.Requested(schedule.CPU) != 3000 {
			w.Errorf("%d of CPU requested after the update, want 3000", n.Requested(schedule.CPU))
		}
	})
}

func TestGroupErrorNamesTheReason(t *testing.T) {
	c := cluster(t, node("n", 4))
	_, err := c.PlaceGroup(2, pod("a", 3), pod("b", 3))
	if err == nil || !strings.Contains(err.Error(), "only 1 of the 2 pods wanted at once can be placed: 0/1 nodes are available: 1 Insufficient cpu.") || !errors.Is(err, schedule.ErrUnschedulable) {
		t.Errorf("PlaceGroup: %v", err)
	}
	if c.Pods() != 0 {
		t.Errorf("%d pods are left", c.Pods())
	}
}

func TestClusterUpdatePod(t *testing.T) {
	c := cluster(t, node("a", 4), node("b", 4))
	must(t, c.AddPod(pod("p", 1, on("a"))))
	must(t, c.UpdatePod(pod("p", 2, on("a"))))
	must(t, c.UpdatePod(pod("p", 2, on("b"))))
	a, _ := c.NodeInfo("a")
	b, _ := c.NodeInfo("b")
	if a.Requested(schedule.CPU) != 0 || b.Requested(schedule.CPU) != 2000 || len(slices.Collect(b.Pods())) != 1 || b.Allocatable(schedule.CPU) != 4000 {
		t.Errorf("requested: %d on a, %d on b; want 0 and 2000", a.Requested(schedule.CPU), b.Requested(schedule.CPU))
	}
	if err := c.UpdatePod(pod("p", 2)); !errors.Is(err, schedule.ErrInvalid) {
		t.Errorf("UpdatePod without a node: %v, want ErrInvalid", err)
	}
	if err := c.UpdatePod(pod("q", 2, on("a"))); !errors.Is(err, schedule.ErrNotFound) {
		t.Errorf("UpdatePod of an unknown pod: %v, want ErrNotFound", err)
	}
}
