// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// minGrace is what a container has between SIGTERM and SIGKILL even if its
// preStop hook used up the grace period.
const minGrace = 2 * time.Second

// end stops the pod for good, and with remove takes everything of it away. It reports whether
// all of that is done; otherwise another turn will go on.
func (w *worker) end(ctx context.Context, p *Pod, remove bool) bool {
	if !w.over {
		if !w.stopAll(ctx, p) {
			return false
		}
		w.over = true
	}
	if err := w.clear(ctx, p, remove); err != nil {
		if ctx.Err() == nil {
			w.warn(p, "", EventFailedKillPod, "error killing pod: %v", err)
			w.wakeAt(time.Now().Add(time.Second))
		}
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cleared = true
	return remove
}

// isCleared reports whether nothing of the pod runs and its volumes are gone.
func (w *worker) isCleared() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cleared
}

// stopAll stops the containers: all main ones at once, then the sidecars in
// reverse order, all before the deadline.
func (w *worker) stopAll(ctx context.Context, p *Pod) bool {
	w.mu.Lock()
	by := w.killBy
	if by.IsZero() {
		by = time.Now().Add(p.grace())
	}
	w.mu.Unlock()
	var together, after []int
	for n, i := range w.list {
		i.waiting = Waiting{}
		if i.id == "" || i.state == runtime.ContainerExited {
			continue
		}
		if i.kind == sidecarKind {
			after = append(after, n)
		} else {
			together = append(together, n)
		}
	}
	stop := func(n int) {
		w.stop(ctx, p, w.spec(p, n), w.list[n], by, fmt.Sprintf("Stopping container %s", w.list[n].name))
	}
	if len(together)+len(after)+len(w.extra) > 0 {
		w.m.queue.aside(func() {
			var wg sync.WaitGroup
			for _, n := range together {
				wg.Go(func() { stop(n) })
			}
			for _, i := range w.extra {
				wg.Go(func() { w.stop(ctx, p, nil, i, by, "Stopping container "+i.name) })
			}
			wg.Wait()
			for _, n := range slices.Backward(after) {
				stop(n)
			}
		})
	}
	for _, i := range slices.Concat(w.list, w.extra) {
		if i.id == "" || i.state == runtime.ContainerExited {
			continue
		}
		if err := w.look(ctx, i); err != nil || i.state == runtime.ContainerRunning || i.state == runtime.ContainerUnknown {
			if ctx.Err() == nil {
				w.warn(p, "", EventFailedKillPod, "error killing pod: container %s is still running: %v", i.name, err)
				w.wakeAt(time.Now().Add(time.Second))
			}
			return false
		}
	}
	return true
}

// stop runs the preStop hook and stops one container, until a deadline. Several may run at a time, for different containers.
func (w *worker) stop(ctx context.Context, p *Pod, c *Container, i *instance, by time.Time, why string) {
	if i.state != runtime.ContainerRunning && i.state != runtime.ContainerUnknown {
		return // created and never started: it goes with its sandbox
	}
	w.event(p, i.name, EventKilling, "%s", why)
	w.mu.Lock()
	i.probes.ending()
	w.mu.Unlock()
	if c != nil && c.PreStop != nil && !i.preStopped && time.Until(by) > 0 {
		i.preStopped = true
		hookCtx, cancel := context.WithDeadline(ctx, by)
		err := w.hook(hookCtx, p, c, i, *c.PreStop)
		cancel()
		if err != nil && ctx.Err() == nil {
			w.warn(p, c.Name, EventFailedPreStopHook, "PreStopHook failed: %v", err)
		}
		if left := time.Now().Add(minGrace); left.After(by) {
			by = left
		}
	}
	if err := w.m.config.Runtime.StopContainer(ctx, i.id, max(0, time.Until(by))); err != nil && ctx.Err() == nil {
		w.warn(p, i.name, EventFailedKillPod, "error stopping container %s: %v", i.name, err)
	}
}

// clear stops the sandbox, and with remove gives back everything.
func (w *worker) clear(ctx context.Context, p *Pod, remove bool) error {
	rt := w.m.config.Runtime
	if w.sandbox.ready {
		if err := rt.StopPodSandbox(ctx, w.sandbox.id); err != nil {
			return err
		}
		w.sandbox.ready = false
	}
	if err := w.unmountVolumes(ctx, p); err != nil {
		return err
	}
	if !remove {
		return nil
	}
	for _, id := range []string{w.oldSandbox, w.sandbox.id} {
		if id != "" {
			if err := rt.RemovePodSandbox(ctx, id); err != nil {
				return err
			}
		}
	}
	if w.m.config.Root != "" {
		return errors.Join(os.RemoveAll(w.m.podDir(w.uid)), os.RemoveAll(w.m.logDir(p)))
	}
	return nil
}
