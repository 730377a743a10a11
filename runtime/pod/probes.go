// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/runtime/probe"
)

// Kubernetes' defaults.
const (
	defaultPeriod    = 10 * time.Second
	defaultTimeout   = time.Second
	defaultFailures  = 3
	defaultSuccesses = 1
)

// probes are the checks of one running container. Between checks there is a timer and no goroutine.
// All fields are guarded by the worker's mu.
type probes struct {
	stopped        bool
	started, ready bool
	kill           string
	killGrace      *time.Duration
	all            []*check
}

// check is one repeated probe.
type check struct {
	name    string // "Liveness", "Readiness" or "Startup", as in events
	probe   *Probe
	timer   *time.Timer
	ok      bool // of the last result
	run     int  // how many results in a row were like the last
	stopped bool
}

// startProbes begins to check a container that runs. last, if it tells of this very
// container, says whether it was ready when another agent looked: it does not become unready
// because the agent was restarted.
func (w *worker) startProbes(p *Pod, c *Container, i *instance, last *ContainerStatus) {
	i.started, i.ready = true, true
	if c.StartupProbe == nil && c.ReadinessProbe == nil && c.LivenessProbe == nil {
		return
	}
	s := &probes{started: c.StartupProbe == nil, ready: c.ReadinessProbe == nil}
	if last != nil && last.ContainerID == i.id {
		s.started = s.started || last.Started
		s.ready = s.ready || last.Ready
	}
	target := target{id: i.id, ip: w.address()}
	add := func(name string, pr *Probe) {
		if pr == nil {
			return
		}
		k := &check{name: name, probe: pr}
		s.all = append(s.all, k)
		wait := max(0, time.Until(i.begun.Add(pr.InitialDelay)))
		k.timer = time.AfterFunc(wait, func() {
			w.m.queue.spawnFunc(func(ctx context.Context) { w.check(ctx, p, c, s, k, target) })
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i.probes = s
	if !s.started {
		add("Startup", c.StartupProbe)
	}
	add("Readiness", c.ReadinessProbe)
	add("Liveness", c.LivenessProbe)
	s.read(i)
}

// target is what a check talks to.
type target struct{ id, ip string }

// address is where the pod's servers listen.
func (w *worker) address() string {
	switch {
	case len(w.sandbox.ips) > 0:
		return w.sandbox.ips[0]
	case w.m.config.HostIP != "":
		return w.m.config.HostIP
	}
	return "127.0.0.1"
}

// read copies the results to the instance.
func (s *probes) read(i *instance) {
	if s != nil {
		i.started, i.ready, i.kill, i.killGrace = s.started, s.started && s.ready, s.kill, s.killGrace
	}
}

// stop ends all checks; one in progress has no effect any more.
func (s *probes) stop() {
	if s == nil {
		return
	}
	s.stopped = true
	for _, k := range s.all {
		k.timer.Stop()
	}
}

// ending stops what could kill a container that is being stopped.
func (s *probes) ending() {
	if s == nil {
		return
	}
	for _, k := range s.all {
		if k.name != "Readiness" {
			k.stopped = true
			k.timer.Stop()
		}
	}
}

// check does one probe and says when the next is due.
func (w *worker) check(ctx context.Context, p *Pod, c *Container, s *probes, k *check, t target) {
	w.mu.Lock()
	hold := !s.started && k.name != "Startup" // until the container has started
	stopped := s.stopped || k.stopped
	w.mu.Unlock()
	if stopped {
		return
	}
	var err error
	if !hold {
		timeout := or(k.probe.Timeout, defaultTimeout)
		probeCtx, cancel := context.WithTimeout(ctx, timeout)
		err = w.probe(probeCtx, p, c, k.probe.Handler, t, timeout)
		cancel()
	}
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.stopped || k.stopped {
		return
	}
	if !hold && w.result(p, c, s, k, err) {
		w.wakeLocked()
	}
	if !k.stopped {
		k.timer.Reset(or(k.probe.Period, defaultPeriod))
	}
}

// result takes in the answer of a probe, and reports whether something follows from it. It needs w.mu.
func (w *worker) result(p *Pod, c *Container, s *probes, k *check, err error) bool {
	if ok := err == nil; ok == k.ok {
		k.run++
	} else {
		k.ok, k.run = ok, 1
	}
	if k.run == 0 {
		k.run = 1
	}
	if err != nil {
		w.warn(p, c.Name, EventUnhealthy, "%s probe failed: %v", k.name, err)
		if k.run < or(k.probe.FailureThreshold, defaultFailures) {
			return false
		}
	} else if k.run < or(k.probe.SuccessThreshold, defaultSuccesses) {
		return false
	}
	was := *s
	switch {
	case k.name == "Readiness":
		s.ready = k.ok
	case err != nil:
		s.kill = fmt.Sprintf("Container %s failed %s probe, will be restarted", c.Name, strings.ToLower(k.name))
		s.killGrace = k.probe.TerminationGracePeriod
		k.stopped = true // until there is a new container
	case k.name == "Startup":
		s.started, k.stopped = true, true
	}
	return s.ready != was.ready || s.started != was.started || s.kill != was.kill
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// probe asks once. The error's text is what belongs into the event.
func (w *worker) probe(ctx context.Context, p *Pod, c *Container, h Handler, t target, timeout time.Duration) error {
	if w.m.config.Probe != nil {
		return w.m.config.Probe(ctx, p, c.Name, h)
	}
	if h.Exec == nil {
		return w.call(ctx, c, h, t.ip)
	}
	r, err := w.m.config.Runtime.ExecSync(ctx, t.id, h.Exec, timeout)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("command timed out: %q timed out after %v", h.Exec, timeout)
	case err != nil:
		return err
	case r.ExitCode != 0:
		return errors.New(strings.TrimSpace(string(r.Stdout) + string(r.Stderr)))
	}
	return nil
}

// call does what a handler says over the network.
func (w *worker) call(ctx context.Context, c *Container, h Handler, ip string) error {
	port := func(n int) (int, error) {
		if h.PortName == "" {
			return n, nil
		}
		for _, p := range c.Ports {
			if p.Name == h.PortName {
				return p.ContainerPort, nil
			}
		}
		return 0, fmt.Errorf("container %s has no port named %q", c.Name, h.PortName)
	}
	var err error
	switch {
	case h.HTTPGet != nil:
		g := *h.HTTPGet
		g.Host = or(g.Host, ip)
		if g.Port, err = port(g.Port); err == nil {
			err = probe.HTTP(ctx, g)
		}
	case h.TCPSocket != nil:
		s := *h.TCPSocket
		s.Host = or(s.Host, ip)
		if s.Port, err = port(s.Port); err == nil {
			err = probe.TCP(ctx, s)
		}
	case h.GRPC != nil:
		g := *h.GRPC
		g.Host = or(g.Host, ip)
		if g.Port, err = port(g.Port); err == nil {
			err = probe.Check(ctx, g)
		}
	}
	return err
}

// hook runs a postStart or preStop handler.
func (w *worker) hook(ctx context.Context, p *Pod, c *Container, i *instance, h Handler) error {
	switch {
	case h.Sleep > 0:
		t := time.NewTimer(h.Sleep)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case h.Exec != nil:
		r, err := w.m.config.Runtime.ExecSync(ctx, i.id, h.Exec, 0)
		if err == nil && r.ExitCode != 0 {
			err = fmt.Errorf("command %q exited with %d: %s", h.Exec, r.ExitCode, strings.TrimSpace(string(r.Stdout)+string(r.Stderr)))
		}
		return err
	}
	return w.call(ctx, c, h, w.address())
}
