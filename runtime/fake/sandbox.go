// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

type sandboxKey struct {
	uid     string
	attempt uint32
}

// sandbox keeps no more of its configuration than the interface can ask for:
// a simulated node has very many.
type sandbox struct {
	id                  string
	meta                runtime.PodSandboxMetadata
	labels, annotations map[string]string
	logDir              string
	handler             string
	namespaces          runtime.NamespaceOptions
	stopped             bool
	created             int64 // Unix nanoseconds
	addr                netip.Addr
	containers          []*container
}

// RunPodSandbox makes a sandbox with an address of its own.
func (r *Runtime) RunPodSandbox(ctx context.Context, c *runtime.PodSandboxConfig) (string, error) {
	if c.Metadata.UID == "" || c.Metadata.Name == "" {
		return "", fmt.Errorf("run sandbox: %w: Metadata needs a name and a UID", runtime.ErrInvalid)
	}
	if err := r.before(ctx, Call{Op: "RunPodSandbox", Pod: c.Metadata}); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := sandboxKey{c.Metadata.UID, c.Metadata.Attempt}
	if old := r.attempts[key]; old != nil {
		return "", fmt.Errorf("run sandbox: attempt %d of pod %s is sandbox %s: %w", key.attempt, key.uid, old.id, runtime.ErrAlreadyExists)
	}
	s := &sandbox{
		meta: c.Metadata, labels: c.Labels, annotations: c.Annotations, logDir: c.LogDirectory,
		handler: c.RuntimeHandler, namespaces: c.Namespaces, created: time.Now().UnixNano(),
	}
	if c.Namespaces.Network != runtime.NamespaceNode {
		addr, err := r.ip()
		if err != nil {
			return "", fmt.Errorf("run sandbox of pod %s: %w", key.uid, err)
		}
		s.addr = addr
	}
	s.id = r.id()
	r.sandboxes[s.id], r.attempts[key] = s, s
	return s.id, nil
}

// StopPodSandbox kills the containers and gives back the address.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	s, err := r.sandboxFor(ctx, "StopPodSandbox", id)
	if err != nil || s == nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopSandbox(s)
	return nil
}

func (r *Runtime) stopSandbox(s *sandbox) {
	for _, c := range s.containers {
		r.exit(c, exit{code: 128 + sigKill})
	}
	if s.addr.IsValid() {
		r.freeIPs = append(r.freeIPs, s.addr)
	}
	s.stopped, s.addr = true, netip.Addr{}
}

// RemovePodSandbox removes the sandbox with its containers.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	s, err := r.sandboxFor(ctx, "RemovePodSandbox", id)
	if err != nil || s == nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandboxes[id] == nil {
		return nil
	}
	r.stopSandbox(s)
	for len(s.containers) > 0 {
		r.remove(s.containers[0])
	}
	delete(r.sandboxes, s.id)
	delete(r.attempts, sandboxKey{s.meta.UID, s.meta.Attempt})
	return nil
}

// sandboxFor runs the hook and returns nil if there is no such sandbox.
func (r *Runtime) sandboxFor(ctx context.Context, op, id string) (*sandbox, error) {
	r.mu.Lock()
	s := r.sandboxes[id]
	r.mu.Unlock()
	call := Call{Op: op}
	if s != nil {
		call.Pod = s.meta
	}
	return s, r.before(ctx, call)
}

// PodSandboxStatus describes one sandbox.
func (r *Runtime) PodSandboxStatus(ctx context.Context, id string) (*runtime.PodSandboxStatus, error) {
	s, err := r.sandboxFor(ctx, "PodSandboxStatus", id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == nil || r.sandboxes[id] == nil {
		return nil, fmt.Errorf("sandbox %q: %w", id, runtime.ErrNotFound)
	}
	status := &runtime.PodSandboxStatus{PodSandbox: s.summary(), Namespaces: s.namespaces}
	if s.addr.IsValid() {
		status.IPs = []string{s.addr.String()}
	}
	return status, nil
}

func (s *sandbox) summary() runtime.PodSandbox {
	state := runtime.SandboxReady
	if s.stopped {
		state = runtime.SandboxNotReady
	}
	return runtime.PodSandbox{
		ID: s.id, Metadata: s.meta, State: state, CreatedAt: time.Unix(0, s.created),
		Labels: s.labels, Annotations: s.annotations, RuntimeHandler: s.handler,
	}
}

// ListPodSandbox lists what matches.
func (r *Runtime) ListPodSandbox(ctx context.Context, f runtime.PodSandboxFilter) ([]runtime.PodSandbox, error) {
	if err := r.before(ctx, Call{Op: "ListPodSandbox"}); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []runtime.PodSandbox
	for _, s := range r.sandboxes {
		if p := s.summary(); f.Matches(&p) {
			list = append(list, p)
		}
	}
	return list, nil
}

// UpdatePodSandboxResources checks that the sandbox exists.
func (r *Runtime) UpdatePodSandboxResources(ctx context.Context, id string, overhead, resources *runtime.Resources) error {
	s, err := r.sandboxFor(ctx, "UpdatePodSandboxResources", id)
	if err == nil && s == nil {
		err = fmt.Errorf("sandbox %q: %w", id, runtime.ErrNotFound)
	}
	return err
}
