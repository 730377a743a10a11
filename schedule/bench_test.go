// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/schedule"
)

// cpuTime returns the processor time of the process so far.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const benchZones = 3

func benchNode(i int) *schedule.Node {
	name := fmt.Sprintf("node-%d", i)
	return &schedule.Node{
		Name: name,
		Labels: map[string]string{
			schedule.LabelHostname: name,
			schedule.LabelZone:     fmt.Sprintf("zone-%d", i%benchZones),
			"pool":                 fmt.Sprintf("pool-%d", i%10),
		},
		Allocatable: schedule.Resources{CPU: 4000, Memory: 32 << 30, Pods: 110},
	}
}

func benchCluster(b *testing.B, nodes int) *schedule.Cluster {
	b.Helper()
	c, err := schedule.NewCluster(1)
	if err != nil {
		b.Fatal(err)
	}
	for i := range nodes {
		if err := c.AddNode(benchNode(i)); err != nil {
			b.Fatal(err)
		}
	}
	return c
}

// BenchmarkScan has one pod after the other, no two alike, looked at against all
// nodes by all default plugins: nothing is known beforehand. Half of the nodes have a
// pod, or all have two, as at the end of BenchmarkSchedule; no two of these alike.
func BenchmarkScan(b *testing.B) {
	const nodes = 5000
	for _, pods := range []int{nodes / 2, nodes * 2} {
		b.Run(fmt.Sprintf("nodes=%d/pods=%d/slipway", nodes, pods), func(b *testing.B) { benchScan(b, nodes, pods) })
	}
}

func benchScan(b *testing.B, nodes, pods int) {
	c := benchCluster(b, nodes)
	for i := range pods {
		p := benchPod("Basic", i, pods)
		p.NodeName = fmt.Sprintf("node-%d", i*2%nodes+i*2/nodes%2)
		if err := c.AddPod(p); err != nil {
			b.Fatal(err)
		}
	}
	pod := &schedule.Pod{Name: "pod", Requests: schedule.Resources{CPU: 100, Memory: 1 << 20}}
	b.ReportAllocs()
	runtime.GC()
	cpu := cpuTime(b)
	for b.Loop() {
		c.ForgetClass(pod)
		if _, err := c.Schedule(pod); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/float64(nodes), "cpu-ns/node")
}

// benchPod returns a pod of one of a number of templates.
func benchPod(shape string, i, classes int) *schedule.Pod {
	class := i % classes
	app := fmt.Sprintf("app-%d", class)
	p := &schedule.Pod{
		Namespace: "default",
		Name:      fmt.Sprintf("pod-%d", i),
		Labels:    map[string]string{"app": app},
		Requests:  schedule.Resources{CPU: 100 + int64(class%10), Memory: 200<<20 + int64(class)<<10},
	}
	own := &schedule.Selector{MatchLabels: map[string]string{"app": app}}
	term := schedule.PodAffinityTerm{Selector: own, TopologyKey: schedule.LabelZone}
	if shape == "Mixed" {
		shape = []string{"Basic", "NodeAffinity", "ZoneSpread", "PodAffinity", "HostAntiAffinity"}[i%5]
	}
	switch shape {
	case "NodeAffinity":
		p.NodeAffinity.Required = []schedule.NodeSelectorTerm{{MatchExpressions: []schedule.Requirement{{
			Key: "pool", Operator: schedule.In, Values: []string{fmt.Sprintf("pool-%d", class%10), fmt.Sprintf("pool-%d", (class+3)%10), fmt.Sprintf("pool-%d", (class+6)%10)},
		}}}}
	case "ZoneSpread":
		p.SpreadConstraint = []schedule.SpreadConstraint{{MaxSkew: 5, TopologyKey: schedule.LabelZone, Selector: own}}
	case "PodAffinity":
		p.PodAffinity.Required = []schedule.PodAffinityTerm{term}
	case "HostAntiAffinity":
		// At most 5,000 pods of a kind fit on as many hosts: there are two more
		// kinds than templates.
		p.Labels["app"] = fmt.Sprintf("%s-%d", app, i%3)
		p.PodAntiAffinity.Required = []schedule.PodAffinityTerm{{
			Selector: &schedule.Selector{MatchLabels: map[string]string{"app": p.Labels["app"]}}, TopologyKey: schedule.LabelHostname,
		}}
	case "PreferredAffinity":
		term.TopologyKey = schedule.LabelHostname
		p.PodAffinity.Preferred = []schedule.PreferredPodAffinity{{Weight: 1, Term: term}}
	}
	return p
}

// BenchmarkSchedule runs the whole loop: 10,000 pods are queued, decided on with
// all nodes considered, assumed, bound in process, and come back as an event.
func BenchmarkSchedule(b *testing.B) {
	for _, shape := range []string{"Basic", "NodeAffinity", "ZoneSpread", "PodAffinity", "HostAntiAffinity", "PreferredAffinity", "Mixed", "Unschedulable"} {
		for _, nodes := range []int{5000, 15000} {
			for _, classes := range []int{1, 100, 10000} {
				b.Run(fmt.Sprintf("%s/nodes=%d/classes=%d/slipway", shape, nodes, classes), func(b *testing.B) {
					benchSchedule(b, shape, nodes, classes)
				})
			}
		}
	}
	for _, nodes := range []int{5000, 15000} {
		b.Run(fmt.Sprintf("Preemption/nodes=%d/slipway", nodes), func(b *testing.B) { benchPreemption(b, nodes) })
	}
}

// loop is a scheduler whose binder echoes.
type loop struct {
	*schedule.Scheduler
	bound atomic.Int64
	done  chan struct{}
	want  int64
	stop  func()
}

func newLoop(b *testing.B, nodes int, evict bool) *loop {
	l := &loop{done: make(chan struct{}, 1)}
	o := schedule.Options{Seed: 1, Binder: schedule.BinderFunc(func(_ context.Context, pod *schedule.Pod, node *schedule.Node) error {
		p := *pod
		p.NodeName = node.Name
		if err := l.UpdatePod(&p); err != nil {
			return err
		}
		if l.bound.Add(1) == l.want {
			l.done <- struct{}{}
		}
		return nil
	})}
	if evict {
		o.InitialBackoff, o.MaxBackoff = time.Nanosecond, time.Nanosecond
		o.Evict = func(_ context.Context, victim, _ *schedule.Pod) error { return l.RemovePod("default/" + victim.Name) }
	}
	var err error
	if l.Scheduler, err = schedule.New(o); err != nil {
		b.Fatal(err)
	}
	for i := range nodes {
		if err := l.AddNode(benchNode(i)); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	l.stop = func() {
		cancel()
		running.Wait()
	}
	return l
}

func benchSchedule(b *testing.B, shape string, nodes, classes int) {
	const pods = 10_000
	var cpu, wall time.Duration
	var mallocs uint64
	for b.Loop() {
		l := newLoop(b, nodes, false)
		list := make([]*schedule.Pod, 0, pods+pods/100)
		for i := range pods {
			list = append(list, benchPod(shape, i, classes))
			if shape == "Unschedulable" && i%100 == 0 {
				list = append(list, &schedule.Pod{Namespace: "default", Name: fmt.Sprintf("huge-%d", i), Requests: schedule.Resources{CPU: 9000}})
			}
		}
		l.want = pods
		c, w, m := measure(b, func() {
			for _, p := range list {
				if err := l.AddPod(p); err != nil {
					b.Fatal(err)
				}
			}
			<-l.done
		})
		cpu, wall, mallocs = cpu+c, wall+w, mallocs+m
		l.stop()
	}
	n := float64(b.N) * pods
	b.ReportMetric(n/wall.Seconds(), "pods/s")
	b.ReportMetric(float64(cpu)/n, "cpu-ns/pod")
	b.ReportMetric(float64(mallocs)/n, "allocs/pod")
}

func measure(b *testing.B, f func()) (cpu, wall time.Duration, mallocs uint64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c, w := cpuTime(b), time.Now()
	f()
	wall = time.Since(w)
	cpu = cpuTime(b) - c
	runtime.ReadMemStats(&after)
	return cpu, wall, after.Mallocs - before.Mallocs
}

// benchPreemption fills all nodes with pods of low priority and then has pods
// come that fit only if some are evicted.
func benchPreemption(b *testing.B, nodes int) {
	const pods = 200
	var cpu, wall time.Duration
	var mallocs uint64
	for b.Loop() {
		l := newLoop(b, nodes, true)
		for i := range nodes * 4 {
			p := &schedule.Pod{Namespace: "default", Name: fmt.Sprintf("low-%d", i), NodeName: fmt.Sprintf("node-%d", i/4), Requests: schedule.Resources{CPU: 900}}
			if err := l.AddPod(p); err != nil {
				b.Fatal(err)
			}
		}
		l.want = pods
		c, w, m := measure(b, func() {
			for i := range pods {
				p := &schedule.Pod{Namespace: "default", Name: fmt.Sprintf("high-%d", i), Priority: 10, Requests: schedule.Resources{CPU: 3000}}
				if err := l.AddPod(p); err != nil {
					b.Fatal(err)
				}
			}
			<-l.done
		})
		cpu, wall, mallocs = cpu+c, wall+w, mallocs+m
		l.stop()
	}
	n := float64(b.N) * pods
	b.ReportMetric(n/wall.Seconds(), "pods/s")
	b.ReportMetric(float64(cpu)/n, "cpu-ns/preemption")
	b.ReportMetric(float64(mallocs)/n, "allocs/pod")
}

// BenchmarkExplain finds out for all nodes why each refuses the pod.
func BenchmarkExplain(b *testing.B) {
	const nodes = 5000
	c := benchCluster(b, nodes)
	pod := &schedule.Pod{Name: "pod", Requests: schedule.Resources{CPU: 9000, Memory: 1 << 40}}
	b.ReportAllocs()
	runtime.GC()
	cpu := cpuTime(b)
	for b.Loop() {
		e, err := c.Explain(pod)
		if err != nil || e.Diagnosis.Reasons["Insufficient cpu"] != nodes {
			b.Fatal(e.Diagnosis, err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/nodes, "cpu-ns/node")
}

// BenchmarkFork forks a cluster of 5,000 nodes with 10,000 pods.
func BenchmarkFork(b *testing.B) {
	c := benchCluster(b, 5000)
	for i := range 10_000 {
		if _, err := c.Place(benchPod("Mixed", i, 100)); err != nil {
			b.Fatal(err)
		}
	}
	pod := benchPod("Basic", 10_000, 1)
	b.Run("only", func(b *testing.B) {
		b.ReportAllocs()
		runtime.GC()
		cpu := cpuTime(b)
		for b.Loop() {
			c.Fork()
		}
		b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/fork")
	})
	b.Run("place", func(b *testing.B) { // with a first question
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Fork().Place(pod); err != nil {
				b.Fatal(err)
			}
		}
	})
}
