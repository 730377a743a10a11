// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/schedule"
)

type Job struct{ Model string }
type Machine struct{ Model string }

var sameModel = schedule.FilterFunc("SameModel", func(j Job, m Machine) *schedule.Status {
	if j.Model == m.Model {
		return nil
	}
	return schedule.Reject("node(s) were of another model")
})

// A scheduler with a plugin of one's own.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := schedule.New(schedule.Options{
		Profiles: []schedule.Profile{{Plugins: schedule.With(schedule.DefaultPlugins(), sameModel)}},
		Binder: schedule.BinderFunc(func(_ context.Context, pod *schedule.Pod, node *schedule.Node) error {
			fmt.Println(pod, "goes to", node.Name)
			cancel() // one is enough
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	s.AddNode(&schedule.Node{Name: "big", Allocatable: schedule.Resources{CPU: 15000}, Object: Machine{"old"}})
	s.AddNode(&schedule.Node{Name: "small", Allocatable: schedule.Resources{CPU: 10000}, Object: Machine{"new"}})
	s.AddPod(&schedule.Pod{Name: "job", Requests: schedule.Resources{CPU: 5000}, Object: Job{"new"}})
	s.Run(ctx)
	// Output: job goes to small
}

// newCluster returns a cluster with nodes of 4, 10 and 15 CPUs.
func newCluster() *schedule.Cluster {
	c, err := schedule.NewCluster(1)
	if err != nil {
		log.Fatal(err)
	}
	for _, cpus := range []int64{4, 10, 15} {
		node := &schedule.Node{Name: fmt.Sprintf("cpus-%d", cpus), Allocatable: schedule.Resources{CPU: cpus * 1000}}
		if err := c.AddNode(node); err != nil {
			log.Fatal(err)
		}
	}
	return c
}

func ExampleCluster_Place() {
	c := newCluster()
	for range 4 {
		pod := &schedule.Pod{Name: fmt.Sprintf("pod-%d", c.Pods()), Requests: schedule.Resources{CPU: 5000}}
		d, err := c.Place(pod)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s goes to %s, %d would do\n", pod, d.Node.Name, d.Feasible)
	}
	// Output:
	// pod-0 goes to cpus-15, 2 would do
	// pod-1 goes to cpus-10, 2 would do
	// pod-2 goes to cpus-15, 2 would do
	// pod-3 goes to cpus-15, 2 would do
}

// How many more pods would fit, and what would become of them if a node went away?
func ExampleCluster_Fork() {
	c := newCluster()
	if _, err := c.Place(&schedule.Pod{Name: "pod", Requests: schedule.Resources{CPU: 3000}}); err != nil {
		log.Fatal(err)
	}
	fork := c.Fork()
	nodes, err := fork.PlaceCopies(&schedule.Pod{Name: "copy", Requests: schedule.Resources{CPU: 5000}}, 100)
	fmt.Println(len(nodes), "more fit, then:", err)

	moves, err := c.Fork().Drain("cpus-15")
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range moves {
		fmt.Println(m.Pod, "would move to", m.To.Name)
	}
	fmt.Println(c.Pods(), "pod, on", c.Pod("/pod").NodeName)
	// Output:
	// 4 more fit, then: 0/3 nodes are available: 3 Insufficient cpu.
	// pod would move to cpus-10
	// 1 pod, on cpus-15
}

func ExampleCluster_Explain() {
	c := newCluster()
	e, err := c.Explain(&schedule.Pod{Name: "pod", Requests: schedule.Resources{CPU: 5000}})
	if err != nil {
		log.Fatal(err)
	}
	for n := range e.Nodes() {
		if n.Plugin != "" {
			fmt.Println(n.Node.Name, "is refused by", n.Plugin, n.Status.Reasons)
			continue
		}
		fmt.Println(n.Node.Name, "scores", n.Total)
		for _, s := range n.Scores {
			if s.Plugin == "NodeResourcesFit" {
				fmt.Printf("  %s: %d × %d\n", s.Plugin, s.Score, s.Weight)
			}
		}
	}
	// Output:
	// cpus-4 is refused by NodeResourcesFit [Insufficient cpu]
	// cpus-10 scores 425
	//   NodeResourcesFit: 50 × 1
	// cpus-15 scores 441
	//   NodeResourcesFit: 66 × 1
}

// A plugin that rates machines by the caller's own objects.
func ExampleScoreFunc() {
	newer := schedule.ScoreFunc("Newer", func(_ Job, m Machine) int64 {
		if m.Model == "new" {
			return schedule.MaxScore
		}
		return schedule.MinScore
	})
	c, err := schedule.NewCluster(1, schedule.Profile{Plugins: schedule.With(schedule.DefaultPlugins(), newer)})
	if err != nil {
		log.Fatal(err)
	}
	for _, model := range []string{"old", "new", "older"} {
		if err := c.AddNode(&schedule.Node{Name: model, Object: Machine{model}}); err != nil {
			log.Fatal(err)
		}
	}
	d, err := c.Schedule(&schedule.Pod{Name: "job", Object: Job{}})
	fmt.Println(d.Node.Name, err)
	// Output: new <nil>
}

// licences is a plugin in vectorised form: it knows which nodes have a free
// licence, and which of these are the better ones.
type licences struct{ free map[string]int64 }

func (licences) Name() string { return "Licences" }

func (l licences) Filter(_ *schedule.Cycle, n schedule.NodeInfo) *schedule.Status {
	if l.free[n.Node().Name] == 0 {
		return schedule.Reject("node(s) had no free licence")
	}
	return nil
}

func (l licences) FilterRows(c *schedule.Cycle, rows *schedule.Rows) {
	for row := range rows.All() {
		if l.free[c.Node(row).Node().Name] == 0 {
			rows.Remove(row)
		}
	}
}

func (l licences) Score(_ *schedule.Cycle, n schedule.NodeInfo) (int64, *schedule.Status) {
	return l.free[n.Node().Name], nil
}

// NormalizeRange turns the greatest number of free licences into 100.
func (licences) NormalizeRange(score, _, greatest int64) int64 { return 100 * score / greatest }

func ExampleFilterRowsPlugin() {
	c, err := schedule.NewCluster(1, schedule.Profile{
		Plugins: schedule.With(schedule.DefaultPlugins(), licences{map[string]int64{"a": 1, "c": 7}}),
		Weights: map[string]int64{"Licences": 10},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := c.AddNode(&schedule.Node{Name: name}); err != nil {
			log.Fatal(err)
		}
	}
	d, err := c.Schedule(&schedule.Pod{Name: "pod"})
	fmt.Println(d.Node.Name, d.Feasible, err)
	// Output: c 2 <nil>
}
