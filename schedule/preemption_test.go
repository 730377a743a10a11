// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/schedule"
)

// victims is the reference's answer for one node: take all pods of lower priority
// away, and put back as many as possible, the important first.
func (c *refCluster) victims(p *schedule.Pod, n *schedule.Node) []*schedule.Pod {
	lower := slices.DeleteFunc(c.on(n.Name), func(q *schedule.Pod) bool { return q.Priority >= p.Priority })
	slices.SortFunc(lower, func(a, b *schedule.Pod) int {
		return cmp.Or(-cmp.Compare(a.Priority, b.Priority), a.Started.Compare(b.Started), cmp.Compare(a.Name, b.Name))
	})
	trial := *c
	trial.pods = slices.DeleteFunc(slices.Clone(c.pods), func(q *schedule.Pod) bool { return slices.Contains(lower, q) })
	if trial.refusedBy(p, n) != "" {
		return nil
	}
	var victims []*schedule.Pod
	for _, q := range lower {
		trial.pods = append(trial.pods, q)
		if trial.refusedBy(p, n) != "" {
			trial.pods = trial.pods[:len(trial.pods)-1]
			victims = append(victims, q)
		}
	}
	return victims
}

// cost is what the choice of a node goes by; less is better.
func cost(victims []*schedule.Pod) []int64 {
	highest, sum := int64(victims[0].Priority), int64(0)
	earliest := victims[0].Started
	for _, v := range victims {
		sum += int64(v.Priority) + 1<<31
		if int64(v.Priority) == highest && v.Started.Before(earliest) {
			earliest = v.Started
		}
	}
	return []int64{highest, sum, int64(len(victims)), -earliest.Unix()}
}

// TestPreemptionAgreesWithReference fills random clusters with pods of several
// priorities and asks who would have to go for one more.
func TestPreemptionAgreesWithReference(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		ref := &refCluster{}
		c := cluster(t)
		for i := range 1 + r.IntN(12) {
			n := node(fmt.Sprint("n", i), int64(1+r.IntN(6)))
			n.Allocatable.Pods = int64(r.IntN(7))
			ref.nodes = append(ref.nodes, n)
			must(t, c.AddNode(n))
			for j := range r.IntN(6) {
				q := pod(fmt.Sprintf("p%d-%d", i, j), int64(r.IntN(3)), on(n.Name))
				q.Priority, q.Started = int32(r.IntN(4)), time.Unix(int64(r.IntN(4)), 0)
				if r.IntN(5) == 0 {
					q.HostPorts = []schedule.HostPort{{Port: 80}}
				}
				ref.pods = append(ref.pods, q)
				must(t, c.AddPod(q))
			}
		}
		p := pod("new", int64(1+r.IntN(4)))
		p.Priority = int32(1 + r.IntN(4))
		if r.IntN(3) == 0 {
			p.HostPorts = []schedule.HostPort{{Port: 80}}
		}
		var best []int64
		fits := false
		for _, n := range ref.nodes {
			if ref.refusedBy(p, n) == "" {
				fits = true
			} else if v := ref.victims(p, n); v != nil && (best == nil || slices.Compare(cost(v), best) < 0) {
				best = cost(v)
			}
		}
		got, err := c.Preempt(p)
		switch {
		case fits:
			if !errors.Is(err, schedule.ErrInvalid) {
				t.Errorf("seed %d: Preempt of a pod that fits = %v, %v", seed, got, err)
			}
		case best == nil:
			if !errors.Is(err, schedule.ErrUnschedulable) {
				t.Errorf("seed %d: Preempt = %+v, %v; want ErrUnschedulable", seed, got, err)
			}
		case err != nil:
			t.Errorf("seed %d: Preempt: %v; want victims of cost %v", seed, err, best)
		default:
			want := ref.victims(p, ref.node(got.NominatedNode))
			if len(want) == 0 || !slices.Equal(cost(want), best) || len(want) != len(got.Victims) || !slices.Equal(cost(got.Victims), best) {
				t.Errorf("seed %d: Preempt on %s costs %v, want %v", seed, got.NominatedNode, cost(got.Victims), best)
			}
		}
	}
}

// A plugin that panics or fails during the trials of preemption leaves nothing
// changed.
func TestPreemptionWithBadPlugin(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func() *schedule.Status
	}{
		{"panic", func() *schedule.Status { panic("oh dear") }},
		{"error", func() *schedule.Status { return schedule.Fail(errors.New("oh dear")) }},
	} {
		for after := range 4 {
			t.Run(fmt.Sprint(tt.name, after), func(t *testing.T) {
				calls := 0
				mine := plugin{filter: func(p *schedule.Pod, n *schedule.Node) *schedule.Status {
					if calls++; calls > after {
						return tt.fail()
					}
					return nil
				}}
				c, err := schedule.NewCluster(1, schedule.Profile{Plugins: schedule.With(schedule.DefaultPlugins(), mine)})
				must(t, err)
				must(t, c.AddNode(node("n", 4)))
				for i := range 4 {
					must(t, c.AddPod(pod(fmt.Sprint("low", i), 1, on("n"))))
				}
				high := pod("high", 2, func(p *schedule.Pod) { p.Priority = 1 })
				_, err = c.Preempt(high)
				if e, ok := errors.AsType[*schedule.PluginError](err); after < 3 && (!ok || e.Plugin != "mine") {
					t.Errorf("Preempt = %v, want an error that blames the plugin", err)
				}
				n, _ := c.NodeInfo("n")
				if got := n.Requested(schedule.CPU); got != 4000 {
					t.Errorf("%d of CPU requested after the trial, want 4000", got)
				}
			})
		}
	}
}
