// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// run does what can be done now to bring a pod to its desired state. Each step
// returns false when the next has to wait; who waits has arranged for another turn.
func (w *worker) run(ctx context.Context, p *Pod, in inputs) {
	if d := p.Spec.ActiveDeadline; d > 0 {
		if end := w.started.Add(d); time.Now().Before(end) {
			w.wakeAt(end)
		} else {
			w.warn(p, "", EventDeadlineExceeded, "Pod was active on the node longer than the specified deadline")
			w.fail(ReasonDeadlineExceeded, "Pod was active on the node longer than the specified deadline", nil)
			return
		}
	}
	if in.newContent {
		for _, i := range w.list {
			i.retryAt = time.Time{} // what was missing may be there now
		}
	}
	ok := w.mountVolumes(ctx, p, in.newContent) && w.ensureSandbox(ctx, p) && w.runInit(ctx, p)
	if !ok {
		return
	}
	for n, i := range w.list {
		if ctx.Err() != nil {
			return
		}
		if i.kind == mainKind || i.kind == ephemeralKind {
			w.keep(ctx, p, w.spec(p, n), i)
		}
	}
}

// ensureSandbox makes a sandbox if there is no ready one.
func (w *worker) ensureSandbox(ctx context.Context, p *Pod) bool {
	if w.sandbox.ready {
		return true
	}
	if w.sandbox.id != "" {
		w.event(p, "", EventSandboxChanged, "Pod sandbox changed, it will be killed and re-created.")
		if err := w.replaceSandbox(ctx); err != nil {
			w.warn(p, "", EventFailedKillPod, "error killing pod: %v", err)
			w.wakeAt(time.Now().Add(retryPause))
			return false
		}
	}
	config := w.sandboxConfig(p, w.sandbox.next)
	id, err := w.m.config.Runtime.RunPodSandbox(ctx, config)
	if errors.Is(err, runtime.ErrAlreadyExists) {
		// The answer of an earlier call was lost; what it made is not ours to guess at.
		err = w.removeAttempt(ctx, config)
	}
	if err != nil {
		if ctx.Err() == nil {
			w.warn(p, "", EventFailedCreateSandbox, "Failed to create pod sandbox: %v", err)
			w.wakeAt(time.Now().Add(retryPause))
		}
		return false
	}
	if id == "" {
		w.wake()
		return false
	}
	w.sandbox = sandbox{id: id, ready: true, attempt: config.Metadata.Attempt, next: config.Metadata.Attempt + 1}
	if !p.Spec.HostNetwork {
		st, err := w.m.config.Runtime.PodSandboxStatus(ctx, id)
		if err != nil {
			w.changed() // the sandbox stands; look again
			return false
		}
		w.sandbox.ips = st.IPs
	}
	return true
}

// removeAttempt removes the sandbox that has the attempt of config.
func (w *worker) removeAttempt(ctx context.Context, config *runtime.PodSandboxConfig) error {
	list, err := w.m.config.Runtime.ListPodSandbox(ctx, runtime.PodSandboxFilter{Labels: map[string]string{labelUID: w.uid}})
	for _, s := range list {
		if s.Metadata.Attempt == config.Metadata.Attempt {
			err = errors.Join(err, w.m.config.Runtime.RemovePodSandbox(ctx, s.ID))
		}
	}
	return err
}

// replaceSandbox stops a sandbox that is not ready, with what may still run in it.
func (w *worker) replaceSandbox(ctx context.Context) error {
	if err := w.m.config.Runtime.StopPodSandbox(ctx, w.sandbox.id); err != nil {
		return err
	}
	for _, i := range w.list {
		if i.id != "" && i.sandbox == w.sandbox.id {
			if err := w.look(ctx, i); err != nil {
				return err
			}
		}
	}
	if w.oldSandbox != "" {
		if err := w.m.config.Runtime.RemovePodSandbox(ctx, w.oldSandbox); err != nil {
			return err
		}
	}
	w.oldSandbox = w.sandbox.id
	w.sandbox.id, w.sandbox.ips = "", nil
	return nil
}

// runInit runs the init containers one after another, and keeps sidecars running.
// It returns true when the pod is initialized.
func (w *worker) runInit(ctx context.Context, p *Pod) bool {
	behind := w.initialized()
	for n, i := range w.list {
		if ctx.Err() != nil {
			return false
		}
		c := w.spec(p, n)
		switch i.kind {
		case sidecarKind:
			w.keep(ctx, p, c, i)
			if !i.started && !behind && !w.mainsExist() {
				return false // its start, exit or startup probe wakes us
			}
		case initKind:
			done := i.sandbox == w.sandbox.id && i.state == runtime.ContainerExited && i.exitCode == 0
			if behind || done || w.mainsExist() {
				continue
			}
			w.keep(ctx, p, c, i)
			return false
		default:
			return true
		}
	}
	return true
}

func (w *worker) mainsExist() bool {
	for _, i := range w.list {
		if i.kind == mainKind && i.id != "" && i.sandbox == w.sandbox.id {
			return true
		}
	}
	return false
}

// keep sees to it that a container runs, as far as its restart policy wants that.
func (w *worker) keep(ctx context.Context, p *Pod, c *Container, i *instance) {
	if i.state != runtime.ContainerExited && time.Now().Before(i.retryAt) {
		w.wakeAt(i.retryAt)
		return
	}
	if i.id != "" && i.sandbox == w.sandbox.id {
		switch i.state {
		case runtime.ContainerRunning, runtime.ContainerUnknown:
			w.resume(p, c, i)
			if !w.mustEnd(ctx, p, c, i) {
				return
			}
		case runtime.ContainerCreated:
			// The agent went away between create and start. Start nothing that it does not know.
			if err := w.m.config.Runtime.RemoveContainer(ctx, i.id); err != nil {
				w.wakeAt(time.Now().Add(retryPause))
				return
			}
			w.start(ctx, p, c, i, i.attempt)
			return
		}
	}
	if i.id == "" {
		w.start(ctx, p, c, i, i.attempt)
		return
	}
	if i.sandbox == w.sandbox.id && !w.restarts(p, c, i) {
		i.waiting = Waiting{}
		return
	}
	now := time.Now()
	if until := i.crash.until(w.m.config.CrashBackOff, i.ended); now.Before(until) {
		if i.waiting.Reason != ReasonCrashLoopBackOff {
			w.warn(p, c.Name, EventBackOff, "Back-off restarting failed container %s in pod %s", c.Name, p)
		}
		i.waiting = Waiting{ReasonCrashLoopBackOff, fmt.Sprintf("back-off %v restarting failed container=%s pod=%s", i.crash.delay, c.Name, p)}
		w.wakeAt(until)
		return
	}
	w.start(ctx, p, c, i, i.attempt+1)
}

// mustEnd stops a running container that failed its probes or whose
// specification changed, and reports whether it has exited.
func (w *worker) mustEnd(ctx context.Context, p *Pod, c *Container, i *instance) bool {
	kill, grace := i.kill, p.grace()
	switch {
	case kill != "":
		if i.killGrace != nil {
			grace = *i.killGrace
		}
	case i.kind != ephemeralKind && i.image != c.Image:
		kill = fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)
	default:
		return !w.resize(ctx, p, c, i)
	}
	w.m.queue.aside(func() { w.stop(ctx, p, c, i, time.Now().Add(grace), kill) })
	if err := w.look(ctx, i); err != nil || i.state != runtime.ContainerExited {
		w.wakeAt(time.Now().Add(time.Second))
		return false
	}
	return true
}

// resize brings the resources of a running container to those of its specification. It
// reports whether the container goes on running.
func (w *worker) resize(ctx context.Context, p *Pod, c *Container, i *instance) bool {
	if i.applied == c.Resources {
		return true
	}
	if c.RestartOnResize {
		w.m.queue.aside(func() {
			w.stop(ctx, p, c, i, time.Now().Add(p.grace()), fmt.Sprintf("Container %s resize requires restart", c.Name))
		})
		if err := w.look(ctx, i); err != nil || i.state != runtime.ContainerExited {
			w.wakeAt(time.Now().Add(time.Second))
			return true
		}
		return false
	}
	err := w.m.config.Runtime.UpdateContainerResources(ctx, i.id, cgroup(p, c.Resources, w.m.config.MemoryCapacity))
	if err == nil {
		err = w.m.config.Runtime.UpdatePodSandboxResources(ctx, w.sandbox.id, nil, sum(p, w.m.config.MemoryCapacity))
		if errors.Is(err, runtime.ErrUnsupported) {
			err = nil
		}
	}
	if err != nil {
		w.resizeError = err.Error()
		w.warn(p, c.Name, EventResizeError, "Error resizing container %s: %v", c.Name, err)
		w.wakeAt(time.Now().Add(retryPause))
		return true
	}
	w.resizeError = ""
	i.applied = c.Resources
	w.event(p, c.Name, EventResizeCompleted, "Resized container %s", c.Name)
	return true
}

// resume goes on with a container that another agent started.
func (w *worker) resume(p *Pod, c *Container, i *instance) {
	if !i.adopted {
		return
	}
	i.adopted = false
	// The runtime knows limits and not requests, so what is in force can only be compared in its terms.
	if want := cgroup(p, c.Resources, w.m.config.MemoryCapacity); i.running == nil || sameLimits(want, i.running) {
		i.applied = c.Resources
	}
	var last *ContainerStatus
	if p.Last != nil {
		for _, list := range [][]ContainerStatus{p.Last.InitContainerStatuses, p.Last.ContainerStatuses} {
			for n := range list {
				if list[n].Name == c.Name {
					last = &list[n]
				}
			}
		}
	}
	w.startProbes(p, c, i, last)
}

func sameLimits(a, b *runtime.Resources) bool {
	return a.CPUShares == b.CPUShares && a.CPUQuota == b.CPUQuota && a.MemoryLimit == b.MemoryLimit
}
