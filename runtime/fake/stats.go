// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// ContainerStats says what the behaviour's Usage does.
func (r *Runtime) ContainerStats(ctx context.Context, id string) (*runtime.ContainerStats, error) {
	c, err := r.running(ctx, "ContainerStats", id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := c.stats()
	return &s, nil
}

// stats needs r.mu.
func (c *container) stats() runtime.ContainerStats {
	s := runtime.ContainerStats{ID: c.id, SandboxID: c.sandbox.id, Metadata: c.meta}
	now := time.Now()
	if c.does != nil && c.does.Usage != nil {
		s.Usage = *c.does.Usage
		s.CPU = time.Duration(now.Sub(unix(c.started)).Seconds() * float64(s.CPU))
	}
	s.Timestamp = now
	return s
}

// candidates needs r.mu. A filter with a sandbox or an ID looks at no others.
func (r *Runtime) candidates(f runtime.ContainerFilter) iter.Seq[*container] {
	return func(yield func(*container) bool) {
		switch {
		case f.ID != "":
			if c := r.containers[f.ID]; c != nil {
				yield(c)
			}
		case f.SandboxID != "":
			if s := r.sandboxes[f.SandboxID]; s != nil {
				for _, c := range s.containers {
					if !yield(c) {
						return
					}
				}
			}
		default:
			for _, c := range r.containers {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// ListContainerStats lists the stats of running containers.
func (r *Runtime) ListContainerStats(ctx context.Context, f runtime.ContainerFilter) ([]runtime.ContainerStats, error) {
	if err := r.before(ctx, Call{Op: "ListContainerStats"}); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []runtime.ContainerStats
	for c := range r.candidates(f) {
		if s := r.summary(c); c.state == runtime.ContainerRunning && f.Matches(&s) {
			list = append(list, c.stats())
		}
	}
	return list, nil
}

// PodSandboxStats adds up the containers of a sandbox.
func (r *Runtime) PodSandboxStats(ctx context.Context, id string) (*runtime.PodSandboxStats, error) {
	s, err := r.sandboxFor(ctx, "PodSandboxStats", id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == nil || r.sandboxes[id] == nil {
		return nil, fmt.Errorf("stats of sandbox %q: %w", id, runtime.ErrNotFound)
	}
	stats := s.stats()
	return &stats, nil
}

// stats needs r.mu.
func (s *sandbox) stats() runtime.PodSandboxStats {
	sum := runtime.PodSandboxStats{ID: s.id, Metadata: s.meta}
	sum.Timestamp = time.Now()
	for _, c := range s.containers {
		if c.state != runtime.ContainerRunning {
			continue
		}
		one := c.stats()
		sum.CPU += one.CPU
		sum.MemoryWorkingSet += one.MemoryWorkingSet
		sum.MemoryRSS += one.MemoryRSS
		sum.Processes += one.Processes
		sum.Containers = append(sum.Containers, one)
	}
	return sum
}

// ListPodSandboxStats lists the stats of ready sandboxes.
func (r *Runtime) ListPodSandboxStats(ctx context.Context, f runtime.PodSandboxFilter) ([]runtime.PodSandboxStats, error) {
	if err := r.before(ctx, Call{Op: "ListPodSandboxStats"}); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []runtime.PodSandboxStats
	for _, s := range r.sandboxes {
		if p := s.summary(); !s.stopped && f.Matches(&p) {
			list = append(list, s.stats())
		}
	}
	return list, nil
}
