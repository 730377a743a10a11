// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/slipway-dev/slipway/schedule"
)

var seedFlag = flag.Uint64("seed", 0, "repeat the property tests with this seed only")

// random makes clusters small enough that rules meet each other.
type random struct {
	*rand.Rand
	ref   *refCluster
	forks []*schedule.Cluster // left behind
	next  int

	// alike means many nodes of few sizes, and pods that request both CPU and memory:
	// what the scan has a fast path for.
	alike bool
	sizes []schedule.Resources
}

func (r *random) chance(percent int) bool { return r.IntN(100) < percent }

func pickOne[T any](r *random, list ...T) T { return list[r.IntN(len(list))] }

func (r *random) node(name string) *schedule.Node {
	n := &schedule.Node{
		Name:        name,
		Labels:      map[string]string{},
		Allocatable: schedule.Resources{CPU: 1000 * int64(1+r.IntN(8)), Memory: int64(1+r.IntN(8)) << 30, EphemeralStorage: 10 << 30, Pods: int64(r.IntN(8))},
		Images:      map[string]int64{},
	}
	if r.alike {
		n.Allocatable = r.sizes[0]
		if r.chance(1) {
			n.Allocatable = pickOne(r, r.sizes...)
		}
	}
	if r.chance(90) {
		n.Labels[schedule.LabelHostname] = name
	}
	if r.chance(85) {
		n.Labels[schedule.LabelZone] = fmt.Sprint("z", r.IntN(3))
	}
	if r.chance(50) {
		n.Labels["disk"] = pickOne(r, "ssd", "hdd")
	}
	if r.chance(50) {
		n.Labels["size"] = fmt.Sprint(r.IntN(4))
	}
	for range r.IntN(3) {
		n.Images[pickOne(r, "app:1", "db", "registry.example.com/x")] = int64(r.IntN(900)) << 20
	}
	if r.alike && r.chance(90) {
		return n
	}
	for range r.IntN(3) {
		n.Taints = append(n.Taints, schedule.Taint{Key: pickOne(r, "a", "b"), Value: pickOne(r, "", "1", "5"),
			Effect: pickOne(r, schedule.NoSchedule, schedule.PreferNoSchedule, schedule.PreferNoSchedule, schedule.NoExecute)})
	}
	n.Unschedulable = r.chance(5)
	n.NotReady = r.chance(5)
	if r.chance(20) {
		n.Allocatable.Extended = map[string]int64{"example.com/gpu": int64(r.IntN(4))}
	}
	return n
}

func (r *random) selector() *schedule.Selector {
	switch r.IntN(10) {
	case 0:
		return nil
	case 1:
		return &schedule.Selector{}
	case 2:
		return &schedule.Selector{MatchExpressions: []schedule.Requirement{{Key: "app", Operator: schedule.NotIn, Values: []string{"web"}}}}
	case 3:
		return &schedule.Selector{MatchExpressions: []schedule.Requirement{{Key: "tier", Operator: schedule.Exists}}}
	}
	return &schedule.Selector{MatchLabels: map[string]string{"app": pickOne(r, "web", "db", "cache")}}
}

func (r *random) topology() string {
	return pickOne(r, schedule.LabelHostname, schedule.LabelZone, schedule.LabelZone, "disk")
}

func (r *random) podTerm() schedule.PodAffinityTerm {
	t := schedule.PodAffinityTerm{Selector: r.selector(), TopologyKey: r.topology()}
	if r.chance(20) {
		t.Namespaces = []string{pickOne(r, "one", "two")}
	}
	if r.chance(20) {
		t.NamespaceSelector = pickOne(r, &schedule.Selector{}, &schedule.Selector{MatchLabels: map[string]string{"team": "x"}})
	}
	if r.chance(15) {
		t.MatchLabelKeys = []string{"tier"}
	}
	if r.chance(15) {
		t.MismatchLabelKeys = []string{"version"}
	}
	return t
}

func (r *random) nodeTerm() schedule.NodeSelectorTerm {
	if r.chance(10) {
		return schedule.NodeSelectorTerm{MatchFields: []schedule.Requirement{{Key: "metadata.name", Operator: schedule.In, Values: []string{fmt.Sprint("n", r.IntN(8))}}}}
	}
	return schedule.NodeSelectorTerm{MatchExpressions: []schedule.Requirement{pickOne(r,
		schedule.Requirement{Key: "disk", Operator: schedule.In, Values: []string{"ssd"}},
		schedule.Requirement{Key: "disk", Operator: schedule.NotIn, Values: []string{"ssd"}},
		schedule.Requirement{Key: "disk", Operator: schedule.Exists},
		schedule.Requirement{Key: "disk", Operator: schedule.DoesNotExist},
		schedule.Requirement{Key: "size", Operator: schedule.Gt, Values: []string{"1"}},
		schedule.Requirement{Key: "size", Operator: schedule.Lt, Values: []string{"3"}},
		schedule.Requirement{Key: schedule.LabelZone, Operator: schedule.In, Values: []string{"z0", "z1"}},
	)}}
}

func (r *random) pod() *schedule.Pod {
	r.next++
	p := &schedule.Pod{
		Namespace:   pickOne(r, "one", "one", "two"),
		Name:        fmt.Sprint("p", r.next),
		Labels:      map[string]string{"app": pickOne(r, "web", "db", "cache")},
		Requests:    schedule.Resources{CPU: 100 * int64(r.IntN(10)), Memory: int64(r.IntN(5)) << 28},
		Terminating: r.chance(5),
		Priority:    int32(r.IntN(3)),
	}
	if r.chance(50) {
		p.Labels["tier"] = pickOne(r, "front", "back")
	}
	if r.chance(30) {
		p.Labels["version"] = pickOne(r, "1", "2")
	}
	if r.chance(10) {
		p.Requests.Extended = map[string]int64{"example.com/gpu": 1}
	}
	if r.chance(10) {
		p.Requests.EphemeralStorage = int64(r.IntN(6)) << 30
	}
	for range r.IntN(3) {
		p.Tolerations = append(p.Tolerations, pickOne(r,
			schedule.Toleration{Operator: schedule.TolerateExists},
			schedule.Toleration{Key: "a", Operator: schedule.TolerateExists, Effect: schedule.NoSchedule},
			schedule.Toleration{Key: "a", Value: "1"},
			schedule.Toleration{Key: "b", Operator: schedule.TolerateGt, Value: "2"},
			schedule.Toleration{Key: "b", Operator: schedule.TolerateLt, Value: "2", Effect: schedule.PreferNoSchedule},
		))
	}
	if r.alike {
		r.addRequests(p)
		if r.chance(60) {
			return p
		}
	}
	r.addNodeRules(p)
	r.addPodRules(p)
	return p
}

// addRequests has a pod request CPU and memory: often in thirds of a percent of a node,
// so that sums are whole percentages, on the edge of the next score.
func (r *random) addRequests(p *schedule.Pod) {
	size := r.sizes[0]
	p.Requests.CPU, p.Requests.Memory = 1+int64(r.IntN(int(size.CPU/3))), 1+int64(r.IntN(int(size.Memory/3)))
	if r.chance(40) {
		p.Requests.CPU = size.CPU * int64(1+r.IntN(100)) / 300
	}
	if r.chance(40) {
		p.Requests.Memory = size.Memory * int64(1+r.IntN(100)) / 300
	}
	if r.chance(8) { // counts for more than it requests
		p.Requests.Memory = 0
	}
}

func (r *random) addNodeRules(p *schedule.Pod) {
	if r.chance(10) {
		p.NodeSelector = map[string]string{"disk": "ssd"}
	} else if r.chance(20) { // not both, lest they contradict each other
		for range 1 + r.IntN(2) {
			p.NodeAffinity.Required = append(p.NodeAffinity.Required, r.nodeTerm())
		}
	}
	for range r.IntN(3) {
		p.NodeAffinity.Preferred = append(p.NodeAffinity.Preferred, schedule.PreferredNodeSelector{Weight: int32(1 + r.IntN(100)), Term: r.nodeTerm()})
	}
	if r.chance(10) {
		p.HostPorts = []schedule.HostPort{{Port: 80 + r.IntN(2), IP: pickOne(r, "", "10.0.0.1", "10.0.0.2")}}
	}
	for range r.IntN(3) {
		p.Images = append(p.Images, pickOne(r, "app:1", "db:latest", "registry.example.com/x", "none"))
	}
}

func (r *random) addPodRules(p *schedule.Pod) {
	if r.chance(20) {
		p.PodAffinity.Required = []schedule.PodAffinityTerm{r.podTerm()}
		if r.chance(30) {
			p.PodAffinity.Required = append(p.PodAffinity.Required, r.podTerm())
		}
	}
	if r.chance(20) {
		p.PodAntiAffinity.Required = []schedule.PodAffinityTerm{r.podTerm()}
	}
	if r.chance(25) {
		p.PodAffinity.Preferred = []schedule.PreferredPodAffinity{{Weight: int32(1 + r.IntN(100)), Term: r.podTerm()}}
	}
	if r.chance(25) {
		p.PodAntiAffinity.Preferred = []schedule.PreferredPodAffinity{{Weight: int32(1 + r.IntN(100)), Term: r.podTerm()}}
	}
	for range max(0, r.IntN(5)-2) {
		s := schedule.SpreadConstraint{
			MaxSkew: int32(1 + r.IntN(2)), TopologyKey: r.topology(), ScheduleAnyway: r.chance(60), Selector: r.selector(),
			IgnoreNodeAffinity: r.chance(20), HonorTaints: r.chance(20),
		}
		if r.chance(20) {
			s.MatchLabelKeys = []string{"version"}
		}
		if !s.ScheduleAnyway && r.chance(30) {
			s.MinDomains = int32(1 + r.IntN(4))
		}
		p.SpreadConstraint = append(p.SpreadConstraint, s)
	}
}

// TestAgreesWithReference drives clusters through random changes and asks about
// random pods: every node must be refused by the same plugin as in the reference,
// or get the same scores; and the node that is chosen must have the best total.
// It is the proof of all that makes the scheduler fast: caches, counters, forks.
func TestAgreesWithReference(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	for i := range seeds {
		seed := uint64(i + 1)
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		if !agreeOn(t, seed) || *seedFlag != 0 {
			t.Fatalf("repeat with: go test -run TestAgreesWithReference -seed %d", seed)
		}
	}
}

func agreeOn(t *testing.T, seed uint64) bool {
	r := &random{Rand: rand.New(rand.NewPCG(seed, 0)), ref: &refCluster{namespaces: map[string]map[string]string{}}}
	r.alike = seed%8 == 0
	c, err := schedule.NewCluster(seed)
	if err != nil {
		t.Fatal(err)
	}
	nodes := 1 + r.IntN(8)
	if r.chance(10) {
		nodes = 80 + r.IntN(20) // more than a block, and more hosts than a coarse column has
	}
	if r.alike {
		nodes = 70 + r.IntN(80)
		for range 3 {
			r.sizes = append(r.sizes, schedule.Resources{
				CPU:    pickOne(r, 9000, 4000, int64(1+r.IntN(9000))),
				Memory: pickOne(r, 3<<30, 32<<30, int64(1+r.IntN(1<<40))),
				Pods:   int64(r.IntN(6)),
			})
		}
		r.sizes[0].CPU, r.sizes[0].Memory = max(r.sizes[0].CPU, 100), max(r.sizes[0].Memory, 100)
	}
	for i := range nodes {
		n := r.node(fmt.Sprint("n", i))
		r.ref.nodes = append(r.ref.nodes, n)
		must(t, c.AddNode(n))
	}
	var templates []*schedule.Pod
	for range 6 {
		p := r.pod()
		if len(templates) > 0 && r.chance(50) { // like another but for its rules
			q := *templates[0]
			q.HostPorts, q.Images = nil, nil
			q.NodeSelector, q.NodeAffinity = nil, schedule.NodeSelection{}
			r.addNodeRules(&q)
			if r.chance(50) {
				q.SpreadConstraint = slices.Clone(q.SpreadConstraint)
				for i := range q.SpreadConstraint {
					q.SpreadConstraint[i].HonorTaints = !q.SpreadConstraint[i].HonorTaints
				}
			}
			p = &q
		}
		templates = append(templates, p)
	}
	for step := range 60 {
		p := r.pod()
		if r.chance(70) { // often one of a few templates, for the caches
			q := *pickOne(r, templates...)
			q.Name = p.Name
			p = &q
		}
		if !compare(t, c, r.ref, p) {
			t.Logf("seed %d, step %d", seed, step)
			return false
		}
		disturb(t, r)
		c = change(t, c, r, p)
	}
	return true
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// change does something to both clusters.
func change(t *testing.T, c *schedule.Cluster, r *random, p *schedule.Pod) *schedule.Cluster {
	t.Helper()
	ref := r.ref
	if r.chance(5) {
		c.ForgetUnused()
	}
	switch k := r.IntN(100); {
	case k < 60:
		d, err := c.Place(p)
		if err == nil {
			q := *p
			q.NodeName = d.Node.Name
			ref.pods = append(ref.pods, &q)
		} else if !errors.Is(err, schedule.ErrUnschedulable) {
			t.Fatal(err)
		}
	case k < 70 && len(ref.pods) > 0:
		i := r.IntN(len(ref.pods))
		must(t, c.RemovePod(ref.pods[i].Namespace+"/"+ref.pods[i].Name))
		ref.pods = slices.Delete(ref.pods, i, i+1)
	case k < 75: // straight onto a node, fitting or not
		q := *p
		q.NodeName = pickOne(r, ref.nodes...).Name
		must(t, c.AddPod(&q))
		ref.pods = append(ref.pods, &q)
	case k < 83:
		i := r.IntN(len(ref.nodes))
		ref.nodes[i] = r.node(ref.nodes[i].Name)
		must(t, c.UpdateNode(ref.nodes[i]))
	case k < 87 && len(ref.nodes) > 1:
		i := r.IntN(len(ref.nodes))
		must(t, c.RemoveNode(ref.nodes[i].Name))
		ref.nodes = slices.Delete(ref.nodes, i, i+1)
	case k < 91:
		r.next++
		n := r.node(fmt.Sprint("x", r.next))
		ref.nodes = append(ref.nodes, n)
		must(t, c.AddNode(n))
	case k < 94:
		name := pickOne(r, "one", "two")
		labels := map[string]string{"team": pickOne(r, "x", "y")}
		ref.namespaces[name] = labels
		c.SetNamespace(name, labels)
	default:
		return fork(t, c, r)
	}
	return c
}

// fork changes one side of a fork and goes on with the other.
func fork(t *testing.T, c *schedule.Cluster, r *random) *schedule.Cluster {
	f := c.Fork()
	keep, spoil := c, f
	if r.chance(50) {
		keep, spoil = f, c
	}
	for range 5 {
		p := r.pod()
		if _, err := spoil.Place(p); err != nil && !errors.Is(err, schedule.ErrUnschedulable) {
			t.Fatal(err)
		}
	}
	must(t, spoil.RemoveNode(pickOne(r, r.ref.nodes...).Name))
	spoil.SetNamespace("one", map[string]string{"team": "z"})
	for _, n := range r.ref.nodes {
		if spoil.Node(n.Name) != nil {
			must(t, spoil.UpdateNode(r.node(n.Name)))
			break
		}
	}
	r.forks = append(r.forks, spoil)
	if r.chance(50) { // a change before the first question
		return change(t, keep, r, r.pod())
	}
	return keep
}

// disturb changes a fork that was left behind: nobody else may notice.
func disturb(t *testing.T, r *random) {
	if len(r.forks) == 0 {
		return
	}
	f := pickOne(r, r.forks...)
	for n := range f.Nodes() {
		if r.chance(80) {
			continue
		}
		p := r.pod()
		p.NodeName = n.Node().Name
		must(t, f.AddPod(p))
	}
}

func compare(t *testing.T, c *schedule.Cluster, ref *refCluster, p *schedule.Pod) bool {
	t.Helper()
	ok := true
	fail := func(format string, args ...any) {
		t.Errorf(format, args...)
		ok = false
	}
	e, err := c.Explain(p)
	if err != nil {
		fail("Explain(%s): %v", p, err)
		return false
	}
	var feasible []*schedule.Node
	for _, n := range ref.nodes {
		if ref.refusedBy(p, n) == "" {
			feasible = append(feasible, n)
		}
	}
	scores := ref.scores(p, feasible)
	totals := map[string]int64{}
	for n := range e.Nodes() {
		name := n.Node.Name
		if want := ref.refusedBy(p, n.Node); n.Plugin != want {
			fail("pod %+v\nnode %+v\nrefused by %q, want %q", p, n.Node, n.Plugin, want)
			return false
		}
		if n.Plugin != "" {
			if want := ref.shortOf(p, n.Node); n.Plugin == "NodeResourcesFit" && !slices.Equal(n.Status.Reasons, want) {
				fail("pod %+v\nnode %+v\nrefused because of %q, want %q", p, n.Node, n.Status.Reasons, want)
				return false
			}
			continue
		}
		got := map[string]int64{}
		for _, s := range n.Scores {
			got[s.Plugin] = s.Score
			totals[name] += s.Score * s.Weight
		}
		want := map[string]int64{}
		for plugin, m := range scores {
			want[plugin] = m[name]
		}
		if !maps.Equal(got, want) {
			fail("pod %+v\nnode %+v\nscores %v, want %v", p, n.Node, got, want)
			return false
		}
		if totals[name] != n.Total {
			fail("node %s: total %d, sum of scores %d", name, n.Total, totals[name])
		}
	}
	checkChoice(c, p, feasible, totals, fail)
	return ok
}

// checkChoice does it by the fast path, twice so that the cache is used too.
func checkChoice(c *schedule.Cluster, p *schedule.Pod, feasible []*schedule.Node, totals map[string]int64, fail func(string, ...any)) {
	for range 2 {
		d, err := c.Schedule(p)
		if len(feasible) == 0 {
			if !errors.Is(err, schedule.ErrUnschedulable) {
				fail("Schedule(%s) = %v, %v; want an ErrUnschedulable", p, d, err)
			}
			return
		}
		if err != nil {
			fail("Schedule(%s): %v; want one of %d nodes", p, err, len(feasible))
			return
		}
		best := slices.Max(slices.Collect(maps.Values(totals)))
		if d.Feasible != len(feasible) || totals[d.Node.Name] != best {
			fail("Schedule(%s) chose %s with %d of %d feasible nodes, want one with %d among %v", p, d.Node.Name, totals[d.Node.Name], d.Feasible, best, totals)
			return
		}
		var tied []string // each of the best must have had its chance
		for name, total := range totals {
			if total == best {
				tied = append(tied, name)
			}
		}
		got := c.Tied()
		slices.Sort(tied)
		slices.Sort(got)
		if !slices.Equal(got, tied) {
			fail("Schedule(%s) drew lots among %v, want %v", p, got, tied)
			return
		}
	}
}
