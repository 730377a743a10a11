// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// Eviction says when pods have to go because the machine runs short, and how that is known. Zero thresholds mean
// kubelet's.
type Eviction struct {
	// Signals measures the machine; nil: Machine(Config.Root, Config.Images).
	Signals func(ctx context.Context) (Signals, error)

	MemoryAvailable  int64   // bytes (100 MiB)
	NodeFsAvailable  float64 // share of the whole (0.10)
	NodeFsInodes     float64 // (0.05)
	ImageFsAvailable float64 // (0.15)
	ImageFsInodes    float64 // (0.05)

	Interval   time.Duration // between measurements (10 s)
	Transition time.Duration // how long a pressure lasts at least (5 min)
}

// Signals is what the machine has left. A capacity of zero means unknown: no threshold applies.
type Signals struct {
	MemoryAvailable, MemoryCapacity   int64
	NodeFsAvailable, NodeFsCapacity   int64
	NodeFsInodesFree, NodeFsInodes    int64
	ImageFsAvailable, ImageFsCapacity int64
	ImageFsInodesFree, ImageFsInodes  int64
}

// The pressures of a node, as in its conditions.
const (
	MemoryPressure = "MemoryPressure"
	DiskPressure   = "DiskPressure"
)

// pressure remembers when each was last seen.
type pressure struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// Pressure reports whether the machine is short of memory, or of disk: the node's conditions.
func (m *Manager) Pressure() (memory, disk bool) {
	if m.config.Eviction == nil {
		return false, false
	}
	m.pressure.mu.Lock()
	defer m.pressure.mu.Unlock()
	transition := or(m.config.Eviction.Transition, 5*time.Minute)
	recent := func(name string) bool {
		at, ok := m.pressure.seen[name]
		return ok && time.Since(at) < transition
	}
	return recent(MemoryPressure), recent(DiskPressure)
}

// shortage is a threshold that is crossed.
type shortage struct {
	condition, resource  string
	threshold, available int64
}

// crossed returns the first threshold that is crossed, memory before disk.
func (e *Eviction) crossed(s Signals) (shortage, bool) {
	share := func(of int64, v, otherwise float64) int64 { return int64(float64(of) * or(v, otherwise)) }
	for _, t := range []struct {
		condition, resource            string
		threshold, available, capacity int64
	}{
		{MemoryPressure, resourceMemory, or(e.MemoryAvailable, 100<<20), s.MemoryAvailable, s.MemoryCapacity},
		{DiskPressure, resourceStorage, share(s.NodeFsCapacity, e.NodeFsAvailable, 0.10), s.NodeFsAvailable, s.NodeFsCapacity},
		{DiskPressure, resourceInodes, share(s.NodeFsInodes, e.NodeFsInodes, 0.05), s.NodeFsInodesFree, s.NodeFsInodes},
		{DiskPressure, resourceStorage, share(s.ImageFsCapacity, e.ImageFsAvailable, 0.15), s.ImageFsAvailable, s.ImageFsCapacity},
		{DiskPressure, resourceInodes, share(s.ImageFsInodes, e.ImageFsInodes, 0.05), s.ImageFsInodesFree, s.ImageFsInodes},
	} {
		if t.capacity > 0 && t.available < t.threshold {
			return shortage{t.condition, t.resource, t.threshold, t.available}, true
		}
	}
	return shortage{}, false
}

// cleanupWait is how long the next pod is safe while an evicted one has not given back what it used.
const cleanupWait = 30 * time.Second

// evict measures at intervals, and ends one pod each time that a threshold is crossed.
func (m *Manager) evict(ctx context.Context) {
	var victim *worker
	var evicted time.Time
	every(ctx, or(m.config.Eviction.Interval, 10*time.Second), func() {
		if victim != nil && !victim.isCleared() && time.Since(evicted) < cleanupWait {
			return
		}
		short, ok := m.shortage(ctx)
		if ok && short.condition == DiskPressure && m.config.Images != nil && !m.config.NoImageGC {
			removed, err := m.removeAllUnused(ctx)
			if err != nil {
				m.config.Log.Warn("remove unused images", "err", err)
			}
			if removed {
				short, ok = m.shortage(ctx)
			}
		}
		if ok {
			victim, evicted = m.evictOne(ctx, short), time.Now()
		}
	})
}

// shortage measures, and remembers a pressure.
func (m *Manager) shortage(ctx context.Context) (shortage, bool) {
	signals, err := m.config.Eviction.Signals(ctx)
	if err != nil {
		m.config.Log.Warn("measure the machine for eviction", "err", err)
		return shortage{}, false
	}
	short, ok := m.config.Eviction.crossed(signals)
	if !ok {
		return shortage{}, false
	}
	m.pressure.mu.Lock()
	defer m.pressure.mu.Unlock()
	if m.pressure.seen == nil {
		m.pressure.seen = map[string]time.Time{}
	}
	m.pressure.seen[short.condition] = time.Now()
	return short, true
}

// candidate is a pod that could go, with what it uses of the resource that is short, and what it asked for.
type candidate struct {
	w              *worker
	pod            *Pod
	usage, request int64
}

// evictable returns the pod if it could be ended as failed.
func (w *worker) evictable() (*Pod, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	over := w.deleted || w.failure != nil || !w.desired || w.status == nil || w.status.Phase.Finished()
	return w.pod, !over && !critical(w.pod)
}

// evictOne ends the pod that has to go first. It returns nil if there is none.
func (m *Manager) evictOne(ctx context.Context, short shortage) *worker {
	memory := map[string]int64{}
	if short.condition == MemoryPressure {
		stats, err := m.config.Runtime.ListPodSandboxStats(ctx, runtime.PodSandboxFilter{})
		if err != nil {
			m.config.Log.Warn("usage of pods for eviction", "err", err)
		}
		for _, s := range stats {
			memory[s.Metadata.UID] = int64(s.MemoryWorkingSet)
		}
	}
	var list []candidate
	for _, w := range m.workers() {
		p, ok := w.evictable()
		if !ok {
			continue
		}
		c := candidate{w: w, pod: p, usage: memory[w.uid]}
		for i := range p.Spec.Containers {
			request := p.Spec.Containers[i].Resources.withDefaults().Requests
			switch short.resource {
			case resourceMemory:
				c.request += request.Memory
			case resourceStorage:
				c.request += request.EphemeralStorage
			}
		}
		if short.condition == DiskPressure {
			_, _, sum := m.localStorage(ctx, p)
			if c.usage = sum.bytes; short.resource == resourceInodes {
				c.usage = sum.inodes
			}
		}
		list = append(list, c)
	}
	if len(list) == 0 || ctx.Err() != nil {
		return nil
	}
	victim := slices.MinFunc(list, firstToGo)
	message := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %d, available: %d. Pod was using %d, request is %d. ",
		short.resource, short.threshold, short.available, victim.usage, victim.request)
	victim.w.warn(victim.pod, "", EventEvicted, "%s", message)
	victim.w.fail(ReasonEvicted, message, new(time.Duration(0)))
	return victim.w
}

// The resources that can be short, as in Kubernetes' messages.
const (
	resourceMemory  = "memory"
	resourceStorage = "ephemeral-storage"
	resourceInodes  = "inodes"
)

// critical pods are never evicted: Kubernetes' system-cluster-critical and above.
func critical(p *Pod) bool {
	const systemCritical = 2_000_000_000
	return p.Spec.Priority >= systemCritical
}

// firstToGo is kubelet's order: who uses more than it asked for, then who is less
// important, then who is furthest above what it asked for.
func firstToGo(a, b candidate) int {
	over := func(c candidate) int {
		if c.usage > c.request {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(over(a), over(b)),
		cmp.Compare(a.pod.Spec.Priority, b.pod.Spec.Priority),
		cmp.Compare(b.usage-b.request, a.usage-a.request),
		cmp.Compare(a.w.uid, b.w.uid),
	)
}
