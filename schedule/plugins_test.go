// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/schedule"
)

// A plugin of the caller's own that misbehaves must be named, with pod and node,
// and must not keep other pods from being placed.

type plugin struct {
	filter func(pod *schedule.Pod, node *schedule.Node) *schedule.Status
	score  func(pod *schedule.Pod, node *schedule.Node) (int64, *schedule.Status)
}

func (plugin) Name() string { return "mine" }

func (p plugin) Filter(c *schedule.Cycle, n schedule.NodeInfo) *schedule.Status {
	if p.filter == nil {
		return nil
	}
	return p.filter(c.Pod, n.Node())
}

func (p plugin) Score(c *schedule.Cycle, n schedule.NodeInfo) (int64, *schedule.Status) {
	if p.score == nil {
		return 0, nil
	}
	return p.score(c.Pod, n.Node())
}

func bad(p *schedule.Pod) bool { return strings.HasPrefix(p.Name, "bad") }

func TestBadPlugins(t *testing.T) {
	for _, tt := range []struct {
		name   string
		plugin plugin
		want   string
	}{
		{"panic in Filter", plugin{filter: func(p *schedule.Pod, n *schedule.Node) *schedule.Status {
			if bad(p) {
				panic("oh dear")
			}
			return nil
		}}, "plugin mine: Filter of pod default/bad on node n: panic: oh dear"},
		{"error in Filter", plugin{filter: func(p *schedule.Pod, n *schedule.Node) *schedule.Status {
			if bad(p) {
				return schedule.Fail(errors.New("no idea"))
			}
			return nil
		}}, "plugin mine: Filter of pod default/bad on node n: no idea"},
		{"score above the range", plugin{score: func(p *schedule.Pod, n *schedule.Node) (int64, *schedule.Status) {
			if bad(p) {
				return 101, nil
			}
			return 100, nil
		}}, "plugin mine: Score of pod default/bad on node n: score 101 is not from 0 to 100"},
		{"score below the range", plugin{score: func(p *schedule.Pod, n *schedule.Node) (int64, *schedule.Status) {
			if bad(p) {
				return -1, nil
			}
			return 0, nil
		}}, "plugin mine: Score of pod default/bad on node n: score -1 is not from 0 to 100"},
		{"error in Score", plugin{score: func(p *schedule.Pod, n *schedule.Node) (int64, *schedule.Status) {
			if bad(p) {
				return 0, schedule.Fail(errors.New("no idea"))
			}
			return 0, nil
		}}, "plugin mine: Score of pod default/bad on node n: no idea"},
		{"nil node in Score", plugin{score: func(p *schedule.Pod, n *schedule.Node) (int64, *schedule.Status) {
			if bad(p) {
				return int64(len(schedule.Object[string](n))), nil
			}
			return 0, nil
		}}, "plugin mine: Score of pod default/bad on node n: panic: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, withPlugin(tt.plugin), func(w *world) {
				w.node("n", 8)
				w.pod("bad", 1)
				w.pod("good", 1)
				time.Sleep(time.Second)
				w.wantFailed("bad", tt.want)
				w.want("good@n")
			})
		})
	}
}

// A function about the caller's objects is blamed by the plugin's name, too, if the
// objects are of another type.
func TestObjectOfAnotherType(t *testing.T) {
	strict := schedule.FilterFunc("strict", func(p string, n int) *schedule.Status { return nil })
	run(t, withPlugin(strict), func(w *world) {
		w.must(w.AddNode(node("n", 8, func(n *schedule.Node) { n.Object = 1 })))
		w.pod("good", 1, func(p *schedule.Pod) { p.Object = "text" })
		w.pod("bad", 1, func(p *schedule.Pod) { p.Object = 7 })
		time.Sleep(time.Second)
		w.wantFailed("bad", "plugin strict: Filter of pod default/bad on node n: panic: interface conversion")
		w.want("good@n")
	})
}

func TestBlockedPluginIsLeftBehind(t *testing.T) {
	var release chan struct{}
	o := withPlugin(plugin{filter: func(p *schedule.Pod, n *schedule.Node) *schedule.Status {
		if bad(p) {
			<-release
			if n.Name != "n" {
				panic("the node changed under the plugin")
			}
		}
		return nil
	}})
	o.PluginTimeout = 3 * time.Second
	run(t, o, func(w *world) {
		release = make(chan struct{})
		w.node("n", 8)
		w.pod("first", 1)
		synctest.Wait()
		w.pod("bad", 1)
		time.Sleep(3500 * time.Millisecond)
		w.wantFailed("bad", "plugin mine: Filter of pod default/bad on node n: still running after 3s: context deadline exceeded")
		w.must(w.RemovePod("default/bad"))
		w.pod("good", 7)
		time.Sleep(time.Second)
		w.want("first@n", "good@n")
		w.must(w.RemovePod("default/first"))
		w.must(w.RemovePod("default/good"))
		w.must(w.RemoveNode("n"))
		close(release)
		synctest.Wait()
	})
}

type misspelt struct{}

func (misspelt) Name() string                                    { return "misspelt" }
func (misspelt) Filter(*schedule.Pod, *schedule.Node) error      { return nil }
func (misspelt) PostBind(context.Context, *schedule.Pod, string) {}

type empty struct{}

func (empty) Name() string { return "empty" }

func TestBadOptions(t *testing.T) {
	binder := schedule.BinderFunc(func(context.Context, *schedule.Pod, *schedule.Node) error { return nil })
	with := func(p ...schedule.Plugin) schedule.Options {
		return schedule.Options{Binder: binder, Profiles: []schedule.Profile{{Plugins: p}}}
	}
	weights := with(schedule.NodeName{})
	weights.Profiles[0].Weights = map[string]int64{"ImageLocality": 1}
	for _, tt := range []struct {
		name string
		o    schedule.Options
		want string
	}{
		{"no binder", schedule.Options{}, "Options.Binder is nil"},
		{"negative", schedule.Options{Binder: binder, MaxBackoff: -1}, "negative"},
		{"nil plugin", with(nil), "a plugin is nil"},
		{"misspelt", with(misspelt{}), "which is not that of schedule."},
		{"empty", with(empty{}), "plugin empty (schedule_test.empty) implements no extension point"},
		{"twice", with(schedule.NodeName{}, schedule.NodeName{}), "plugin NodeName: already exists"},
		{"two sorts", with(schedule.PrioritySort{}, otherSort{}), "two plugins sort the queue: PrioritySort and otherSort"},
		{"weight of nobody", weights, `weight 1 of plugin "ImageLocality"`},
		{"strategy", with(schedule.NodeResourcesFit{Strategy: 7}), "plugin NodeResourcesFit: unknown strategy 7"},
		{"shape", with(schedule.NodeResourcesFit{Strategy: schedule.RequestedToCapacityRatio}), "a shape goes with the strategy"},
		{"points", with(schedule.NodeResourcesFit{Strategy: schedule.RequestedToCapacityRatio, Shape: []schedule.UtilizationPoint{{50, 1}, {50, 2}}}), "rising utilisations"},
		{"volumes", with(schedule.VolumeBinding{}), "Volumes is nil"},
		{"profiles", schedule.Options{Binder: binder, Profiles: []schedule.Profile{{}, {}}}, "profile default-scheduler: already exists"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := schedule.New(tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New returned %v, want an error with %q", err, tt.want)
			}
		})
	}
}

type otherSort struct{ schedule.PrioritySort }

func (otherSort) Name() string { return "otherSort" }

func TestBadPodsAndNodes(t *testing.T) {
	c := cluster(t, node("n", 4))
	must(t, c.AddPod(pod("there", 1, on("n"))))
	change := func(f func(*schedule.Pod)) *schedule.Pod { return pod("p", 1, f) }
	term := func(r ...schedule.Requirement) []schedule.NodeSelectorTerm {
		return []schedule.NodeSelectorTerm{{MatchExpressions: r}}
	}
	for _, tt := range []struct {
		pod  *schedule.Pod
		want string
	}{
		{change(func(p *schedule.Pod) { p.Requests.CPU = -1 }), "pod default/p: invalid: cpu: -1 is negative"},
		{change(func(p *schedule.Pod) { p.Requests.Memory = 1 << 60 }), "memory: 1152921504606846976 is above the limit"},
		{change(func(p *schedule.Pod) { p.Requests.Extended = map[string]int64{"gpu": 1} }), `unknown resource "gpu": extended resources are named domain/name`},
		{change(func(p *schedule.Pod) { p.Requests.Extended = map[string]int64{"cpu": 1} }), `resource "cpu" has a field of its own`},
		{change(func(p *schedule.Pod) { p.Labels = map[string]string{"a b": ""} }), `label key "a b"`},
		{change(func(p *schedule.Pod) { p.Tolerations = []schedule.Toleration{{}} }), "toleration 0: an empty key needs the operator Exists"},
		{change(func(p *schedule.Pod) { p.HostPorts = []schedule.HostPort{{Port: 70000}} }), "host port 0: 70000 is not from 1 to 65535"},
		{change(func(p *schedule.Pod) {
			p.NodeAffinity.Required = term(schedule.Requirement{Key: "a", Operator: schedule.In, Values: []string{"x"}}, schedule.Requirement{Key: "a", Operator: schedule.NotIn, Values: []string{"x"}})
		}), `required node affinity, term 0: contradictory: no node can meet both "a=x" and "a!=x"`},
		{change(func(p *schedule.Pod) {
			p.NodeSelector = map[string]string{"a": "x"}
			p.NodeAffinity.Required = term(schedule.Requirement{Key: "a", Operator: schedule.DoesNotExist})
		}), `contradictory: no node can meet both "a=x" and "!a"`},
		{change(func(p *schedule.Pod) {
			p.NodeAffinity.Required = term(schedule.Requirement{Key: "a", Operator: schedule.In})
		}), `operator In needs at least one value`},
		{change(func(p *schedule.Pod) { p.NodeAffinity.Preferred = []schedule.PreferredNodeSelector{{Weight: 0}} }), "preferred node affinity, term 0: weight 0 is not from 1 to 100"},
		{change(func(p *schedule.Pod) { p.PodAffinity.Required = []schedule.PodAffinityTerm{{}} }), "required pod affinity, term 0: topology key"},
		{change(func(p *schedule.Pod) {
			p.PodAntiAffinity.Required = []schedule.PodAffinityTerm{{TopologyKey: "z", Selector: &schedule.Selector{MatchExpressions: []schedule.Requirement{{Key: "a", Operator: schedule.Gt, Values: []string{"1"}}}}}}
		}), `required pod anti-affinity, term 0: label "a": operator Gt is for node selectors only`},
		{change(func(p *schedule.Pod) { p.SpreadConstraint = []schedule.SpreadConstraint{{TopologyKey: "z"}} }), "spread constraint 0: max skew 0 is below 1"},
		{change(func(p *schedule.Pod) { p.SchedulerName = "other" }), `pod default/p: profile "other": not found`},
		{pod("there", 1), "pod default/there: already exists"},
		{pod("", 1), "has no name"},
	} {
		if _, err := c.Place(tt.pod); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Place(%+v) = %v, want an error with %q", tt.pod, err, tt.want)
		}
	}
	if err := c.AddNode(node("n", 1)); !errors.Is(err, schedule.ErrExists) || err.Error() != "node n: already exists" {
		t.Errorf("AddNode twice: %v", err)
	}
	if err := c.AddPod(pod("ghost", 1, on("gone"))); !errors.Is(err, schedule.ErrNotFound) || !strings.Contains(err.Error(), "pod default/ghost is on node gone") {
		t.Errorf("AddPod on a node that is gone: %v", err)
	}
	must(t, c.AddNode(node("gone", 1))) // now it counts
	if n, _ := c.NodeInfo("gone"); n.Requested(schedule.CPU) != 1000 {
		t.Errorf("the pod that came before its node counts %d", n.Requested(schedule.CPU))
	}
	for _, n := range []*schedule.Node{{}, {Name: "x", Taints: []schedule.Taint{{Key: "a"}}}, {Name: "x", Allocatable: schedule.Resources{CPU: -1}}, {Name: "x", Labels: map[string]string{"/": ""}}} {
		if err := c.AddNode(n); !errors.Is(err, schedule.ErrInvalid) {
			t.Errorf("AddNode(%+v) = %v, want ErrInvalid", n, err)
		}
	}
}

func cluster(t testing.TB, nodes ...*schedule.Node) *schedule.Cluster {
	t.Helper()
	c, err := schedule.NewCluster(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := c.AddNode(n); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func on(node string) func(*schedule.Pod) { return func(p *schedule.Pod) { p.NodeName = node } }
