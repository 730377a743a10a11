// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/slipway-dev/slipway/schedule"
)

// TestConcurrentUse has several goroutines add and remove pods and nodes while
// others fork and explain. No node may ever be given more than it has, and all
// pods that are left must be placed in the end.
func TestConcurrentUse(t *testing.T) {
	const workers, podsEach, nodes, cpus = 4, 300, 20, 64
	var mu sync.Mutex
	used := map[string]int64{}
	where := map[string]string{}
	placed := make(chan struct{}, workers*podsEach)
	var s *schedule.Scheduler
	bind := func(_ context.Context, pod *schedule.Pod, n *schedule.Node) error {
		if rand.IntN(20) == 0 {
			return errors.New("try again")
		}
		mu.Lock()
		used[n.Name] += pod.Requests.CPU
		where[pod.Name] = n.Name
		over := used[n.Name] > cpus*1000
		mu.Unlock()
		if over {
			t.Errorf("node %s has more than fits", n.Name)
		}
		bound := *pod
		bound.NodeName = n.Name
		if err := s.UpdatePod(&bound); err != nil {
			t.Error(err)
		}
		placed <- struct{}{}
		return nil
	}
	var err error
	s, err = schedule.New(schedule.Options{Binder: schedule.BinderFunc(bind), InitialBackoff: 1, MaxBackoff: 1})
	must(t, err)
	for i := range nodes {
		must(t, s.AddNode(labelledSize(fmt.Sprint("n", i), cpus, fmt.Sprint("z", i%3))))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running, working sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	for w := range workers {
		working.Go(func() {
			for i := range podsEach {
				p := benchPod("Mixed", i, 7)
				p.Name = fmt.Sprintf("p-%d-%d", w, i)
				// There are not enough hosts for one pod each, and no such pools.
				p.PodAntiAffinity, p.NodeAffinity = schedule.PodAffinity{}, schedule.NodeSelection{}
				must(t, s.AddPod(p))
				if i%50 == 0 {
					if _, err := s.Fork().Explain(benchPod("ZoneSpread", i, 7)); err != nil {
						t.Error(err)
					}
					must(t, s.UpdateNode(labelledSize(fmt.Sprint("n", i%nodes), cpus, fmt.Sprint("z", i%nodes%3))))
				}
			}
		})
	}
	working.Wait()
	for range workers * podsEach {
		<-placed
	}
	cancel()
	running.Wait()
	if len(where) != workers*podsEach {
		t.Errorf("%d pods were placed, want %d", len(where), workers*podsEach)
	}
	f := s.Fork()
	for n := range f.Nodes() {
		if got, want := n.Requested(schedule.CPU), used[n.Node().Name]; got != want {
			t.Errorf("node %s: %d requested, bound were %d", n.Node().Name, got, want)
		}
	}
}

func labelledSize(name string, cpus int64, zone string) *schedule.Node {
	n := labelled(name, schedule.LabelZone, zone, "pool", "pool-0")
	n.Allocatable.CPU = cpus * 1000
	return n
}
