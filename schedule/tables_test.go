// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/schedule"
)

// Rules of the default plugins, from Kubernetes' documentation and KEPs. Each
// case is a small cluster, a pod, and the nodes that may take it.

type rule struct {
	name  string
	nodes []*schedule.Node
	there []*schedule.Pod // on nodes already
	pod   *schedule.Pod
	want  []string // feasible
	best  string   // chosen, if not empty
	why   string   // the FitError, if no node is feasible
}

func (r rule) run(t *testing.T) {
	t.Run(r.name, func(t *testing.T) {
		c := cluster(t, r.nodes...)
		for _, p := range r.there {
			must(t, c.AddPod(p))
		}
		e, err := c.Explain(r.pod)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for n := range e.Nodes() {
			if n.Plugin == "" {
				got = append(got, n.Node.Name)
			}
		}
		if !slices.Equal(got, r.want) {
			t.Errorf("feasible: %q, want %q (%s)", got, r.want, &e.Diagnosis)
		}
		d, err := c.Schedule(r.pod)
		if r.best != "" && (err != nil || d.Node.Name != r.best) {
			t.Errorf("chosen: %v, %v; want %s", d.Node, err, r.best)
		}
		if r.why != "" && (err == nil || err.Error() != r.why) {
			t.Errorf("refused with\n  %v, want\n  %s", err, r.why)
		}
	})
}

func labelled(name string, kv ...string) *schedule.Node {
	return node(name, 8, func(n *schedule.Node) {
		for i := 0; i < len(kv); i += 2 {
			n.Labels[kv[i]] = kv[i+1]
		}
	})
}

func tainted(name string, taints ...schedule.Taint) *schedule.Node {
	return node(name, 8, func(n *schedule.Node) { n.Taints = taints })
}

func tolerating(t ...schedule.Toleration) func(*schedule.Pod) {
	return func(p *schedule.Pod) { p.Tolerations = t }
}

func withLabels(kv ...string) func(*schedule.Pod) {
	return func(p *schedule.Pod) {
		p.Labels = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			p.Labels[kv[i]] = kv[i+1]
		}
	}
}

// https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
func TestTaintToleration(t *testing.T) {
	key1, key2 := schedule.Taint{Key: "key1", Value: "value1", Effect: schedule.NoSchedule}, schedule.Taint{Key: "key2", Value: "value2", Effect: schedule.NoSchedule}
	execute := schedule.Taint{Key: "key1", Value: "value1", Effect: schedule.NoExecute}
	prefer := schedule.Taint{Key: "key1", Value: "value1", Effect: schedule.PreferNoSchedule}
	slow := schedule.Taint{Key: "sla", Value: "950", Effect: schedule.NoSchedule}
	for _, r := range []rule{
		{name: "untolerated", nodes: []*schedule.Node{tainted("n", key1)}, pod: pod("p", 1),
			why: "0/1 nodes are available: 1 node(s) had untolerated taint {key1: value1}."},
		{name: "equal", nodes: []*schedule.Node{tainted("n", key1)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "key1", Operator: schedule.TolerateEqual, Value: "value1", Effect: schedule.NoSchedule})), want: []string{"n"}},
		{name: "equal is the default operator", nodes: []*schedule.Node{tainted("n", key1)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "key1", Value: "value1"})), want: []string{"n"}},
		{name: "exists", nodes: []*schedule.Node{tainted("n", key1)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "key1", Operator: schedule.TolerateExists})), want: []string{"n"}},
		{name: "other value", nodes: []*schedule.Node{tainted("n", key1)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "key1", Value: "x"}))},
		{name: "other effect", nodes: []*schedule.Node{tainted("n", key1)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "key1", Operator: schedule.TolerateExists, Effect: schedule.NoExecute}))},
		{name: "empty key matches everything", nodes: []*schedule.Node{tainted("n", key1, key2, execute)}, pod: pod("p", 1, tolerating(schedule.Toleration{Operator: schedule.TolerateExists})), want: []string{"n"}},
		{name: "one of three is left", nodes: []*schedule.Node{tainted("n", key1, execute, key2)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "key1", Operator: schedule.TolerateExists})),
			why: "0/1 nodes are available: 1 node(s) had untolerated taint {key2: value2}."},
		{name: "PreferNoSchedule only prefers", nodes: []*schedule.Node{tainted("a", prefer), tainted("b"), tainted("c", prefer)}, pod: pod("p", 1), want: []string{"a", "b", "c"}, best: "b"},
		{name: "greater than (KEP-5471)", nodes: []*schedule.Node{tainted("n", slow)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "sla", Operator: schedule.TolerateGt, Value: "900"})), want: []string{"n"}},
		{name: "not greater than", nodes: []*schedule.Node{tainted("n", slow)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "sla", Operator: schedule.TolerateGt, Value: "950"}))},
		{name: "less than", nodes: []*schedule.Node{tainted("n", slow)}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "sla", Operator: schedule.TolerateLt, Value: "951"})), want: []string{"n"}},
	} {
		r.run(t)
	}
}

func TestNodeState(t *testing.T) {
	cordoned := node("n", 8, func(n *schedule.Node) { n.Unschedulable = true })
	unready := node("n", 8, func(n *schedule.Node) { n.NotReady = true })
	pressed := node("n", 8, func(n *schedule.Node) { n.Conditions = []string{"MemoryPressure"} })
	for _, r := range []rule{
		{name: "cordoned", nodes: []*schedule.Node{cordoned}, pod: pod("p", 1), why: "0/1 nodes are available: 1 node(s) were unschedulable."},
		{name: "cordon tolerated", nodes: []*schedule.Node{cordoned}, pod: pod("p", 1, tolerating(schedule.Toleration{Key: "node.kubernetes.io/unschedulable", Operator: schedule.TolerateExists})), want: []string{"n"}},
		{name: "not ready", nodes: []*schedule.Node{unready}, pod: pod("p", 1), why: "0/1 nodes are available: 1 node(s) were not ready."},
		{name: "under pressure", nodes: []*schedule.Node{pressed}, pod: pod("p", 1), why: "0/1 nodes are available: 1 node(s) had condition MemoryPressure."},
		{name: "by name", nodes: []*schedule.Node{node("a", 8), node("b", 8)}, pod: pod("p", 1, on("b")), want: []string{"b"}, best: "b"},
		{name: "no nodes", pod: pod("p", 1), why: "0/0 nodes are available: there are no nodes."},
		{name: "several reasons", nodes: []*schedule.Node{tainted("a", schedule.Taint{Key: "gpu", Effect: schedule.NoSchedule}), node("b", 1), node("c", 1)}, pod: pod("p", 2),
			why: "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 Insufficient cpu."},
	} {
		r.run(t)
	}
}

// https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity
func TestNodeAffinity(t *testing.T) {
	nodes := []*schedule.Node{
		labelled("east1", "topology.kubernetes.io/zone", "antarctica-east1", "n", "1"),
		labelled("west1", "topology.kubernetes.io/zone", "antarctica-west1", "n", "10", "another-node-label-key", "another-node-label-value"),
		labelled("none"),
	}
	is := func(key string, op schedule.Operator, values ...string) schedule.Requirement {
		return schedule.Requirement{Key: key, Operator: op, Values: values}
	}
	needs := func(terms ...[]schedule.Requirement) func(*schedule.Pod) {
		return func(p *schedule.Pod) {
			for _, t := range terms {
				p.NodeAffinity.Required = append(p.NodeAffinity.Required, schedule.NodeSelectorTerm{MatchExpressions: t})
			}
		}
	}
	likes := func(weight int32, r schedule.Requirement) func(*schedule.Pod) {
		return func(p *schedule.Pod) {
			p.NodeAffinity.Preferred = append(p.NodeAffinity.Preferred, schedule.PreferredNodeSelector{Weight: weight, Term: schedule.NodeSelectorTerm{MatchExpressions: []schedule.Requirement{r}}})
		}
	}
	zone := schedule.LabelZone
	for _, r := range []rule{
		{name: "in, and the preferred one wins", pod: pod("p", 1, needs([]schedule.Requirement{is(zone, schedule.In, "antarctica-east1", "antarctica-west1")}), likes(1, is("another-node-label-key", schedule.In, "another-node-label-value"))), want: []string{"east1", "west1"}, best: "west1"},
		{name: "not in holds without the label", pod: pod("p", 1, needs([]schedule.Requirement{is(zone, schedule.NotIn, "antarctica-east1")})), want: []string{"west1", "none"}},
		{name: "exists", pod: pod("p", 1, needs([]schedule.Requirement{is(zone, schedule.Exists)})), want: []string{"east1", "west1"}},
		{name: "does not exist", pod: pod("p", 1, needs([]schedule.Requirement{is(zone, schedule.DoesNotExist)})), want: []string{"none"}},
		{name: "greater", pod: pod("p", 1, needs([]schedule.Requirement{is("n", schedule.Gt, "9")})), want: []string{"west1"}},
		{name: "less", pod: pod("p", 1, needs([]schedule.Requirement{is("n", schedule.Lt, "9")})), want: []string{"east1"}},
		{name: "terms are ORed", pod: pod("p", 1, needs([]schedule.Requirement{is("n", schedule.In, "1")}, []schedule.Requirement{is("n", schedule.In, "10")})), want: []string{"east1", "west1"}},
		{name: "requirements are ANDed", pod: pod("p", 1, needs([]schedule.Requirement{is("n", schedule.In, "1"), is(zone, schedule.NotIn, "antarctica-east1")})), why: "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."},
		{name: "an empty term matches nothing", pod: pod("p", 1, needs(nil))},
		{name: "node selector too", pod: pod("p", 1, needs([]schedule.Requirement{is(zone, schedule.Exists)}), func(p *schedule.Pod) { p.NodeSelector = map[string]string{"n": "1"} }), want: []string{"east1"}},
		{name: "by field", pod: pod("p", 1, func(p *schedule.Pod) {
			p.NodeAffinity.Required = []schedule.NodeSelectorTerm{{MatchFields: []schedule.Requirement{is("metadata.name", schedule.In, "none")}}}
		}), want: []string{"none"}},
		{name: "weights add up", pod: pod("p", 1, likes(10, is("n", schedule.In, "10")), likes(8, is("n", schedule.In, "1")), likes(3, is(zone, schedule.In, "antarctica-east1"))), want: []string{"east1", "west1", "none"}, best: "east1"},
	} {
		r.nodes = nodes
		r.run(t)
	}
}

func TestNodePorts(t *testing.T) {
	port := func(ip, protocol string, n int) func(*schedule.Pod) {
		return func(p *schedule.Pod) {
			p.HostPorts = append(p.HostPorts, schedule.HostPort{IP: ip, Protocol: protocol, Port: n})
		}
	}
	for _, r := range []rule{
		{name: "taken", there: []*schedule.Pod{pod("q", 1, on("n"), port("", "", 80))}, pod: pod("p", 1, port("", "TCP", 80)), why: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
		{name: "other port", there: []*schedule.Pod{pod("q", 1, on("n"), port("", "", 80))}, pod: pod("p", 1, port("", "", 81)), want: []string{"n"}},
		{name: "other protocol", there: []*schedule.Pod{pod("q", 1, on("n"), port("", "UDP", 80))}, pod: pod("p", 1, port("", "TCP", 80)), want: []string{"n"}},
		{name: "other address", there: []*schedule.Pod{pod("q", 1, on("n"), port("10.0.0.1", "", 80))}, pod: pod("p", 1, port("10.0.0.2", "", 80)), want: []string{"n"}},
		{name: "all addresses", there: []*schedule.Pod{pod("q", 1, on("n"), port("10.0.0.1", "", 80))}, pod: pod("p", 1, port("0.0.0.0", "", 80))},
	} {
		r.nodes = []*schedule.Node{node("n", 8)}
		r.run(t)
	}
}

func TestNodeResourcesFit(t *testing.T) {
	full := node("full", 8, func(n *schedule.Node) { n.Allocatable.Pods = 1 })
	gpu := node("gpu", 8, func(n *schedule.Node) { n.Allocatable.Extended = map[string]int64{"example.com/gpu": 2} })
	wants := func(n int64) func(*schedule.Pod) {
		return func(p *schedule.Pod) { p.Requests.Extended = map[string]int64{"example.com/gpu": n} }
	}
	for _, r := range []rule{
		{name: "just fits", nodes: []*schedule.Node{node("n", 4)}, there: []*schedule.Pod{pod("q", 3, on("n"))}, pod: pod("p", 1), want: []string{"n"}},
		{name: "does not fit", nodes: []*schedule.Node{node("n", 4)}, there: []*schedule.Pod{pod("q", 3, on("n"))}, pod: pod("p", 2), why: "0/1 nodes are available: 1 Insufficient cpu."},
		{name: "no request fits a full node", nodes: []*schedule.Node{node("n", 4)}, there: []*schedule.Pod{pod("q", 5, on("n"))}, pod: pod("p", 0), want: []string{"n"}},
		{name: "too many pods", nodes: []*schedule.Node{full}, there: []*schedule.Pod{pod("q", 0, on("full"))}, pod: pod("p", 9), why: "0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods."},
		{name: "extended", nodes: []*schedule.Node{node("n", 4), gpu}, pod: pod("p", 1, wants(2)), want: []string{"gpu"}},
		{name: "not enough extended", nodes: []*schedule.Node{node("n", 4), gpu}, there: []*schedule.Pod{pod("q", 1, on("gpu"), wants(1))}, pod: pod("p", 1, wants(2)), why: "0/2 nodes are available: 2 Insufficient example.com/gpu."},
		{name: "several at once", nodes: []*schedule.Node{node("n", 4)}, pod: pod("p", 5, wants(1), func(p *schedule.Pod) { p.Requests.Memory = 1 << 50 }),
			why: "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/gpu, 1 Insufficient memory."},
	} {
		r.run(t)
	}
}

// https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/ has
// the example of RequestedToCapacityRatio worked out below.
func TestStrategies(t *testing.T) {
	const foo = "intel.com/foo"
	packed := schedule.NodeResourcesFit{
		Strategy:  schedule.RequestedToCapacityRatio,
		Resources: []schedule.ResourceWeight{{Name: foo, Weight: 5}, {Name: schedule.CPU, Weight: 3}, {Name: schedule.Memory, Weight: 1}},
		Shape:     []schedule.UtilizationPoint{{Utilization: 0, Score: 0}, {Utilization: 100, Score: 10}},
	}
	small := node("small", 4, func(n *schedule.Node) {
		n.Allocatable.Memory, n.Allocatable.Extended = 1<<30, map[string]int64{foo: 4}
	})
	big := node("big", 8, func(n *schedule.Node) {
		n.Allocatable.Memory, n.Allocatable.Extended = 1<<30, map[string]int64{foo: 8}
	})
	p := &schedule.Pod{Name: "p", Requests: schedule.Resources{CPU: 2000, Memory: 256 << 20, Extended: map[string]int64{foo: 2}}}
	used := func(node string, cpu, foos int64) *schedule.Pod {
		return &schedule.Pod{Name: "used-" + node, NodeName: node, Requests: schedule.Resources{CPU: cpu * 1000, Memory: 256 << 20, Extended: map[string]int64{foo: foos}}}
	}
	for _, tt := range []struct {
		name string
		fit  schedule.NodeResourcesFit
		want map[string]int64
	}{
		// small: (4-1-2)/4 = 25 and (1024-256-256)/1024 = 50; big: (8-6-2)/8 = 0 and 50.
		{"LeastAllocated", schedule.NodeResourcesFit{}, map[string]int64{"small": 37, "big": 25}},
		{"MostAllocated", schedule.BinPacking(), map[string]int64{"small": 62, "big": 75}},
		// foo (2+1)/4 = 75 %, CPU (2+1)/4 = 75 %, memory 50 %: (75*5 + 75*3 + 50*1) / 9 = 72;
		// foo (2+2)/8 = 50 %, CPU (2+6)/8 = 100 %, memory 50 %: (50*5 + 100*3 + 50*1) / 9 = 67.
		{"RequestedToCapacityRatio", packed, map[string]int64{"small": 72, "big": 67}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := schedule.NewCluster(1, schedule.Profile{Plugins: schedule.With(schedule.DefaultPlugins(), tt.fit)})
			must(t, err)
			must(t, c.AddNode(small))
			must(t, c.AddNode(big))
			must(t, c.AddPod(used("small", 1, 1)))
			must(t, c.AddPod(used("big", 6, 2)))
			if got := scoresOf(t, c, p, "NodeResourcesFit"); !maps.Equal(got, tt.want) {
				t.Errorf("scores %v, want %v", got, tt.want)
			}
		})
	}
}

func scoresOf(t *testing.T, c *schedule.Cluster, p *schedule.Pod, plugin string) map[string]int64 {
	t.Helper()
	e, err := c.Explain(p)
	must(t, err)
	got := map[string]int64{}
	for n := range e.Nodes() {
		for _, s := range n.Scores {
			if s.Plugin == plugin {
				got[n.Node.Name] = s.Score
			}
		}
	}
	return got
}

// https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
// The zones and nodes are those of the examples there.
func TestPodTopologySpread(t *testing.T) {
	nodes := []*schedule.Node{
		labelled("node1", schedule.LabelZone, "zoneA"), labelled("node2", schedule.LabelZone, "zoneA"),
		labelled("node3", schedule.LabelZone, "zoneB"), labelled("node4", schedule.LabelZone, "zoneB"),
	}
	foo := withLabels("foo", "bar")
	here := func(nodes ...string) (pods []*schedule.Pod) {
		for i, n := range nodes {
			pods = append(pods, pod(fmt.Sprint("there-", i), 0, foo, on(n)))
		}
		return pods
	}
	spread := func(key string, change ...func(*schedule.SpreadConstraint)) func(*schedule.Pod) {
		return func(p *schedule.Pod) {
			s := schedule.SpreadConstraint{MaxSkew: 1, TopologyKey: key, Selector: &schedule.Selector{MatchLabels: map[string]string{"foo": "bar"}}}
			for _, f := range change {
				f(&s)
			}
			p.SpreadConstraint = append(p.SpreadConstraint, s)
		}
	}
	domains := func(n int32) func(*schedule.SpreadConstraint) {
		return func(s *schedule.SpreadConstraint) { s.MinDomains = n }
	}
	soft := func(s *schedule.SpreadConstraint) { s.ScheduleAnyway = true }
	notB := func(p *schedule.Pod) {
		p.NodeAffinity.Required = []schedule.NodeSelectorTerm{{MatchExpressions: []schedule.Requirement{{Key: schedule.LabelZone, Operator: schedule.NotIn, Values: []string{"zoneC"}}}}}
	}
	zoneC := labelled("node5", schedule.LabelZone, "zoneC")
	for _, r := range []rule{
		{name: "one constraint", there: here("node1", "node2", "node3"), pod: pod("p", 0, foo, spread(schedule.LabelZone)), want: []string{"node3", "node4"}},
		{name: "two constraints", there: here("node1", "node2", "node3"), pod: pod("p", 0, foo, spread(schedule.LabelZone), spread(schedule.LabelHostname)), want: []string{"node4"}},
		{name: "conflicting constraints", nodes: nodes[:3], there: here("node1", "node1", "node2", "node3", "node3"), pod: pod("p", 0, foo, spread(schedule.LabelZone), spread(schedule.LabelHostname)),
			why: "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints."},
		{name: "a soft one gives way", there: here("node1", "node1", "node2", "node3", "node3"), pod: pod("p", 0, foo, spread(schedule.LabelZone), spread(schedule.LabelHostname, soft)), want: []string{"node3", "node4"}, best: "node4"},
		{name: "excluded nodes don't count", nodes: append(slices.Clone(nodes), zoneC), there: here("node1", "node2", "node3"), pod: pod("p", 0, foo, notB, spread(schedule.LabelZone)), want: []string{"node3", "node4"}},
		{name: "unless they are to (KEP-3094)", nodes: append(slices.Clone(nodes), zoneC), there: here("node1", "node2", "node3"), pod: pod("p", 0, foo, notB, spread(schedule.LabelZone, func(s *schedule.SpreadConstraint) { s.IgnoreNodeAffinity = true })),
			why: "0/5 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 4 node(s) didn't match pod topology spread constraints."},
		{name: "nodes without the key are left out", nodes: append(slices.Clone(nodes), labelled("bare")), pod: pod("p", 0, foo, spread(schedule.LabelZone)), want: []string{"node1", "node2", "node3", "node4"}},
		{name: "too few domains (KEP-3022)", there: here("node1", "node3"), pod: pod("p", 0, foo, spread(schedule.LabelZone, domains(3))),
			why: "0/4 nodes are available: 4 node(s) didn't match pod topology spread constraints."},
		{name: "enough domains", there: here("node1", "node3"), pod: pod("p", 0, foo, spread(schedule.LabelZone, domains(2))), want: []string{"node1", "node2", "node3", "node4"}},
		{name: "tainted nodes count", nodes: append(slices.Clone(nodes[:2]), node("node3", 8, func(n *schedule.Node) {
			n.Labels[schedule.LabelZone], n.Taints = "zoneB", []schedule.Taint{{Key: "a", Effect: schedule.NoSchedule}}
		})), there: here("node1"), pod: pod("p", 0, foo, spread(schedule.LabelZone)),
			why: "0/3 nodes are available: 1 node(s) had untolerated taint {a: }, 2 node(s) didn't match pod topology spread constraints."},
		{name: "unless taints are honoured (KEP-3094)", nodes: append(slices.Clone(nodes[:2]), node("node3", 8, func(n *schedule.Node) {
			n.Labels[schedule.LabelZone], n.Taints = "zoneB", []schedule.Taint{{Key: "a", Effect: schedule.NoSchedule}}
		})), there: here("node1"), pod: pod("p", 0, foo, spread(schedule.LabelZone, func(s *schedule.SpreadConstraint) { s.HonorTaints = true })), want: []string{"node1", "node2"}},
		{name: "match label keys (KEP-3243): another revision does not count", there: []*schedule.Pod{pod("old", 0, withLabels("foo", "bar", "rev", "1"), on("node1")), pod("new", 0, withLabels("foo", "bar", "rev", "2"), on("node3"))},
			pod:  pod("p", 0, withLabels("foo", "bar", "rev", "2"), spread(schedule.LabelZone, func(s *schedule.SpreadConstraint) { s.MatchLabelKeys = []string{"rev"} })),
			want: []string{"node1", "node2"}},
		{name: "other namespaces don't count", there: []*schedule.Pod{pod("q", 0, foo, on("node1"), func(p *schedule.Pod) { p.Namespace = "other" })}, pod: pod("p", 0, foo, spread(schedule.LabelZone)), want: []string{"node1", "node2", "node3", "node4"}},
		{name: "leaving pods don't count", there: []*schedule.Pod{pod("q", 0, foo, on("node1"), func(p *schedule.Pod) { p.Terminating = true })}, pod: pod("p", 0, foo, spread(schedule.LabelZone)), want: []string{"node1", "node2", "node3", "node4"}},
	} {
		if r.nodes == nil {
			r.nodes = nodes
		}
		r.run(t)
	}
}

// https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity
func TestInterPodAffinity(t *testing.T) {
	nodes := []*schedule.Node{
		labelled("v1", schedule.LabelZone, "V"), labelled("v2", schedule.LabelZone, "V"), labelled("r1", schedule.LabelZone, "R"), labelled("bare"),
	}
	term := func(key, app string, change ...func(*schedule.PodAffinityTerm)) schedule.PodAffinityTerm {
		t := schedule.PodAffinityTerm{TopologyKey: key, Selector: &schedule.Selector{MatchLabels: map[string]string{"app": app}}}
		for _, f := range change {
			f(&t)
		}
		return t
	}
	near := func(terms ...schedule.PodAffinityTerm) func(*schedule.Pod) {
		return func(p *schedule.Pod) { p.PodAffinity.Required = terms }
	}
	away := func(terms ...schedule.PodAffinityTerm) func(*schedule.Pod) {
		return func(p *schedule.Pod) { p.PodAntiAffinity.Required = terms }
	}
	app := func(name string) func(*schedule.Pod) { return withLabels("app", name) }
	elsewhere := func(p *schedule.Pod) { p.Namespace = "other" }
	const zone, host = schedule.LabelZone, schedule.LabelHostname
	for _, r := range []rule{
		{name: "near", there: []*schedule.Pod{pod("q", 0, app("cache"), on("v1"))}, pod: pod("p", 0, near(term(zone, "cache"))), want: []string{"v1", "v2"}},
		{name: "near nobody", pod: pod("p", 0, near(term(zone, "cache"))), why: "0/4 nodes are available: 4 node(s) didn't match pod affinity rules."},
		{name: "the first of a kind", pod: pod("p", 0, app("web"), near(term(zone, "web"))), want: []string{"v1", "v2", "r1"}},
		{name: "the second of a kind", there: []*schedule.Pod{pod("q", 0, app("web"), on("r1"))}, pod: pod("p", 0, app("web"), near(term(zone, "web"))), want: []string{"r1"}},
		{name: "away", there: []*schedule.Pod{pod("q", 0, app("web"), on("v1"))}, pod: pod("p", 0, app("web"), away(term(host, "web"))), want: []string{"v2", "r1", "bare"}},
		{name: "away by zone", there: []*schedule.Pod{pod("q", 0, app("web"), on("v1"))}, pod: pod("p", 0, app("web"), away(term(zone, "web"))), want: []string{"r1", "bare"}},
		{name: "anti-affinity is symmetric", there: []*schedule.Pod{pod("q", 0, app("db"), away(term(zone, "web")), on("v1"))}, pod: pod("p", 0, app("web")), want: []string{"r1", "bare"}},
		{name: "both", there: []*schedule.Pod{pod("q", 0, app("cache"), on("v1")), pod("o", 0, app("web"), on("v1"))}, pod: pod("p", 0, app("web"), near(term(zone, "cache")), away(term(host, "web"))), want: []string{"v2"}},
		{name: "another namespace", there: []*schedule.Pod{pod("q", 0, app("cache"), elsewhere, on("v1"))}, pod: pod("p", 0, near(term(zone, "cache")))},
		{name: "namespaces by name", there: []*schedule.Pod{pod("q", 0, app("cache"), elsewhere, on("v1"))}, pod: pod("p", 0, near(term(zone, "cache", func(t *schedule.PodAffinityTerm) { t.Namespaces = []string{"other"} }))), want: []string{"v1", "v2"}},
		{name: "all namespaces", there: []*schedule.Pod{pod("q", 0, app("cache"), elsewhere, on("v1"))}, pod: pod("p", 0, near(term(zone, "cache", func(t *schedule.PodAffinityTerm) { t.NamespaceSelector = &schedule.Selector{} }))), want: []string{"v1", "v2"}},
		{name: "mismatch label keys (KEP-3633): away from other tenants", there: []*schedule.Pod{pod("q", 0, withLabels("app", "web", "tenant", "a"), on("v1")), pod("o", 0, withLabels("app", "web", "tenant", "b"), on("r1"))},
			pod: pod("p", 0, withLabels("app", "web", "tenant", "a"), away(term(zone, "web", func(t *schedule.PodAffinityTerm) { t.MismatchLabelKeys = []string{"tenant"} }))), want: []string{"v1", "v2", "bare"}},
		{name: "preferred", there: []*schedule.Pod{pod("q", 0, app("cache"), on("r1"))}, pod: pod("p", 0, func(p *schedule.Pod) {
			p.PodAffinity.Preferred = []schedule.PreferredPodAffinity{{Weight: 1, Term: term(zone, "cache")}}
		}), want: []string{"v1", "v2", "r1", "bare"}, best: "r1"},
		{name: "preferred by those there", there: []*schedule.Pod{pod("q", 0, func(p *schedule.Pod) {
			p.PodAffinity.Preferred = []schedule.PreferredPodAffinity{{Weight: 1, Term: term(host, "web")}}
		}, on("v2"))}, pod: pod("p", 0, app("web")), want: []string{"v1", "v2", "r1", "bare"}, best: "v2"},
	} {
		r.nodes = nodes
		r.run(t)
	}
}

func TestImageLocality(t *testing.T) {
	with := func(name string, images map[string]int64) *schedule.Node {
		return node(name, 8, func(n *schedule.Node) { n.Images = images })
	}
	c := cluster(t, with("has", map[string]int64{"example.com/app:latest": 600 << 20}), with("other", map[string]int64{"x": 900 << 20}))
	p := pod("p", 1, func(p *schedule.Pod) { p.Images = []string{"example.com/app"} })
	// 600 MiB on one of two nodes count as 300: 100*(300-23)/(1000-23).
	if got, want := scoresOf(t, c, p, "ImageLocality"), map[string]int64{"has": 28, "other": 0}; !maps.Equal(got, want) {
		t.Errorf("scores %v, want %v", got, want)
	}
}

type volumes struct {
	claims map[string]schedule.Claim
	calls  []string
}

func (v *volumes) Claim(_ context.Context, _, name string) (schedule.Claim, error) {
	if c, ok := v.claims[name]; ok {
		return c, nil
	}
	return schedule.Claim{}, schedule.ErrNotFound
}
func (v *volumes) Reserve(_ context.Context, p *schedule.Pod, n *schedule.Node) error {
	v.calls = append(v.calls, "reserve "+p.Name+" "+n.Name)
	return nil
}
func (v *volumes) Release(_ context.Context, p *schedule.Pod, n *schedule.Node) {
	v.calls = append(v.calls, "release "+p.Name+" "+n.Name)
}
func (v *volumes) Bind(_ context.Context, p *schedule.Pod, n *schedule.Node) error {
	v.calls = append(v.calls, "bind "+p.Name+" "+n.Name)
	if len(v.calls) == 2 {
		return errors.New("the disk is not there yet")
	}
	return nil
}

func TestVolumeBinding(t *testing.T) {
	zoneB := []schedule.NodeSelectorTerm{{MatchExpressions: []schedule.Requirement{{Key: schedule.LabelZone, Operator: schedule.In, Values: []string{"b"}}}}}
	nowhere := []schedule.NodeSelectorTerm{{MatchExpressions: []schedule.Requirement{{Key: schedule.LabelZone, Operator: schedule.In, Values: []string{"c"}}}}}
	v := &volumes{claims: map[string]schedule.Claim{
		"bound": {Bound: true, Topology: zoneB}, "waits": {WaitForFirstConsumer: true, Topology: zoneB}, "anywhere": {Bound: true},
		"immediate": {}, "lost": {Bound: true, Topology: nowhere}, "none": {WaitForFirstConsumer: true, Topology: nowhere},
	}}
	profile := schedule.Profile{Plugins: schedule.With(schedule.DefaultPlugins(), schedule.VolumeBinding{Volumes: v})}
	c, err := schedule.NewCluster(1, profile)
	must(t, err)
	must(t, c.AddNode(labelled("a1", schedule.LabelZone, "a")))
	must(t, c.AddNode(labelled("b1", schedule.LabelZone, "b")))
	for claim, want := range map[string]string{
		"bound": "b1", "waits": "b1",
		"immediate": "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
		"missing":   `0/2 nodes are available: persistentvolumeclaim "missing" not found.`,
		"lost":      "0/2 nodes are available: 2 node(s) had volume node affinity conflict.",
		"none":      "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
	} {
		d, err := c.Schedule(pod("p", 1, func(p *schedule.Pod) { p.Claims = []string{"anywhere", claim} }))
		if err != nil && err.Error() != want || err == nil && d.Node.Name != want {
			t.Errorf("claim %s: %v, %v; want %s", claim, d.Node, err, want)
		}
	}
	run(t, schedule.Options{Profiles: []schedule.Profile{profile}}, func(w *world) {
		must(t, w.AddNode(labelled("b1", schedule.LabelZone, "b")))
		w.pod("p", 1, func(p *schedule.Pod) { p.Claims = []string{"waits"} })
		time.Sleep(5 * time.Second)
		w.want("p@b1")
		w.wantFailed("p", "plugin VolumeBinding: PreBind of pod default/p on node b1: the disk is not there yet")
		if want := []string{"reserve p b1", "bind p b1", "release p b1", "reserve p b1", "bind p b1"}; !slices.Equal(v.calls, want) {
			t.Errorf("calls %q, want %q", v.calls, want)
		}
	})
}

type victimsTest struct {
	name    string
	there   []*schedule.Pod
	pod     *schedule.Pod
	budgets []schedule.DisruptionBudget
	node    string
	victims []string
}

// https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
func TestVictims(t *testing.T) {
	low := func(name, node string, cpu int64, priority int32, change ...func(*schedule.Pod)) *schedule.Pod {
		p := pod(name, cpu, on(node), withLabels("app", name))
		p.Priority = priority
		for _, f := range change {
			f(p)
		}
		return p
	}
	started := func(minute int) func(*schedule.Pod) {
		return func(p *schedule.Pod) { p.Started = time.Unix(int64(minute)*60, 0) }
	}
	high := pod("high", 4, func(p *schedule.Pod) { p.Priority = 100 })
	for _, tt := range []victimsTest{
		{name: "as few as needed", there: []*schedule.Pod{low("a1", "a", 2, 1), low("a2", "a", 2, 2), low("b1", "b", 4, 50)}, pod: pod("p", 2, func(p *schedule.Pod) { p.Priority = 10 }), node: "a", victims: []string{"a1"}},
		{name: "the lowest of the highest", there: []*schedule.Pod{low("a1", "a", 4, 3), low("b1", "b", 4, 2)}, pod: high, node: "b", victims: []string{"b1"}},
		{name: "the smaller sum", there: []*schedule.Pod{low("a1", "a", 2, 3), low("a2", "a", 2, 3), low("b1", "b", 2, 3), low("b2", "b", 2, 1)}, pod: high, node: "b", victims: []string{"b1", "b2"}},
		{name: "the fewer", there: []*schedule.Pod{low("a1", "a", 2, 3), low("a2", "a", 2, 3), low("b1", "b", 4, 3)}, pod: high, node: "b", victims: []string{"b1"}},
		{name: "the younger", there: []*schedule.Pod{low("a1", "a", 4, 3, started(1)), low("b1", "b", 4, 3, started(2))}, pod: high, node: "b", victims: []string{"b1"}},
		{name: "a budget protects", there: []*schedule.Pod{low("a1", "a", 4, 1), low("b1", "b", 4, 9)}, pod: high, node: "b", victims: []string{"b1"},
			budgets: []schedule.DisruptionBudget{{Namespace: "default", Selector: &schedule.Selector{MatchLabels: map[string]string{"app": "a1"}}}}},
		{name: "a budget can't prevent", there: []*schedule.Pod{low("a1", "a", 4, 1), low("b1", "b", 4, 100)}, pod: high, node: "a", victims: []string{"a1"},
			budgets: []schedule.DisruptionBudget{{Namespace: "default", Selector: &schedule.Selector{MatchLabels: map[string]string{"app": "a1"}}}}},
		{name: "equals are safe", there: []*schedule.Pod{low("a1", "a", 4, 100), low("b1", "b", 4, 100)}, pod: high},
		{name: "never", there: []*schedule.Pod{low("a1", "a", 4, 1), low("b1", "b", 4, 1)}, pod: pod("p", 4, func(p *schedule.Pod) { p.Priority, p.NeverPreempt = 100, true })},
		{name: "no help", there: []*schedule.Pod{low("a1", "a", 4, 1), low("b1", "b", 4, 1)}, pod: pod("p", 5, func(p *schedule.Pod) { p.Priority = 100 })},
		{name: "anti-affinity", there: []*schedule.Pod{low("a1", "a", 1, 1), low("a2", "a", 1, 1), low("b1", "b", 4, 100)}, pod: pod("p", 1, func(p *schedule.Pod) {
			p.Priority = 100
			p.PodAntiAffinity.Required = []schedule.PodAffinityTerm{{TopologyKey: schedule.LabelHostname, Selector: &schedule.Selector{MatchLabels: map[string]string{"app": "a2"}}}}
		}), node: "a", victims: []string{"a2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(8) { // from whatever node the search begins
				tt.run(t, seed+1)
			}
		})
	}
}

func (tt victimsTest) run(t *testing.T, seed uint64) {
	preemption := schedule.DefaultPreemption{Budgets: func() []schedule.DisruptionBudget { return tt.budgets }}
	c, err := schedule.NewCluster(seed, schedule.Profile{Plugins: schedule.With(schedule.DefaultPlugins(), preemption)})
	must(t, err)
	must(t, c.AddNode(node("a", 4)))
	must(t, c.AddNode(node("b", 4)))
	for _, p := range tt.there {
		must(t, c.AddPod(p))
	}
	r, err := c.Preempt(tt.pod)
	if tt.node == "" {
		if !errors.Is(err, schedule.ErrUnschedulable) {
			t.Errorf("got %+v, %v; want ErrUnschedulable", r, err)
		}
		return
	}
	must(t, err)
	var victims []string
	for _, v := range r.Victims {
		victims = append(victims, v.Name)
	}
	if r.NominatedNode != tt.node || !slices.Equal(victims, tt.victims) {
		t.Errorf("on %s %q, want on %s %q", r.NominatedNode, victims, tt.node, tt.victims)
	}
	if c.Pods() != len(tt.there) {
		t.Errorf("%d pods are left of %d", c.Pods(), len(tt.there))
	}
}

// With a given seed the same calls lead to the same placements; with another, ties
// fall differently.
func TestSeed(t *testing.T) {
	place := func(seed uint64) (nodes []string) {
		c, err := schedule.NewCluster(seed)
		must(t, err)
		for i := range 100 {
			must(t, c.AddNode(node(fmt.Sprint("n", i), 4)))
		}
		for i := range 50 {
			d, err := c.Place(pod(fmt.Sprint("p", i), 1))
			must(t, err)
			nodes = append(nodes, d.Node.Name)
		}
		return nodes
	}
	if a, b := place(7), place(7); !slices.Equal(a, b) {
		t.Errorf("seed 7 placed %v, then %v", a, b)
	}
	if slices.Equal(place(7), place(8)) {
		t.Error("seeds 7 and 8 placed alike")
	}
}

func TestPlaceGroup(t *testing.T) {
	c := cluster(t, node("a", 4), node("b", 4))
	pods := []*schedule.Pod{pod("1", 3), pod("2", 3), pod("3", 3)}
	_, err := c.PlaceGroup(3, pods...)
	if g, ok := errors.AsType[*schedule.GroupError](err); !ok || g.Placed != 2 || g.Want != 3 || !errors.Is(err, schedule.ErrUnschedulable) {
		t.Errorf("PlaceGroup of 3 = %v, want a GroupError about 2 of 3", err)
	}
	if c.Pods() != 0 {
		t.Errorf("%d pods were left behind", c.Pods())
	}
	d, err := c.PlaceGroup(2, pods...)
	if err != nil || d[0].Node == nil || d[1].Node == nil || d[2].Node != nil || c.Pods() != 2 {
		t.Errorf("PlaceGroup of 2 = %v, %v", d, err)
	}
}

// A cycle that looks at all nodes allocates nothing.
func TestScheduleAllocatesNothing(t *testing.T) {
	c := cluster(t)
	for i := range 200 {
		must(t, c.AddNode(labelled(fmt.Sprint("n", i), schedule.LabelZone, fmt.Sprint("z", i%3))))
	}
	p := pod("p", 1)
	schedulePod := func() {
		c.ForgetClass(p)
		if _, err := c.Schedule(p); err != nil {
			t.Fatal(err)
		}
	}
	schedulePod()
	if n := testing.AllocsPerRun(100, schedulePod); n != 0 {
		t.Errorf("%v allocations per cycle, want 0", n)
	}
}

// Over more hosts than are gone through one by one, a host with one pod to be near
// to is worth half as much as one with two, and here that is enough: the other is
// full.
func TestPreferenceOverManyHosts(t *testing.T) {
	c, err := schedule.NewCluster(1, schedule.Profile{Weights: map[string]int64{"InterPodAffinity": 1}})
	must(t, err)
	for i := range 100 {
		must(t, c.AddNode(node(fmt.Sprint("n", i), 8)))
	}
	web := withLabels("app", "web")
	must(t, c.AddPod(pod("one", 0, web, on("n40"))))
	must(t, c.AddPod(pod("two", 0, web, on("n70"))))
	must(t, c.AddPod(pod("three", 8, web, on("n70"), func(p *schedule.Pod) { p.Requests.Memory = 64 << 30 })))
	p := pod("p", 0, func(p *schedule.Pod) {
		p.PodAffinity.Preferred = []schedule.PreferredPodAffinity{{Weight: 1, Term: schedule.PodAffinityTerm{
			TopologyKey: schedule.LabelHostname, Selector: &schedule.Selector{MatchLabels: map[string]string{"app": "web"}},
		}}}
	})
	if d, err := c.Schedule(p); err != nil || d.Node.Name != "n40" {
		t.Errorf("chosen: %v, %v; want n40", d.Node, err)
	}
}
