// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// load takes in what runs already: the runtime is the only record of it.
func (m *Manager) load(ctx context.Context) error {
	sandboxes, err := m.config.Runtime.ListPodSandbox(ctx, runtime.PodSandboxFilter{})
	if err != nil {
		return err
	}
	containers, err := m.config.Runtime.ListContainers(ctx, runtime.ContainerFilter{})
	if err != nil {
		return err
	}
	bySandbox := map[string][]runtime.Container{}
	for _, c := range containers {
		bySandbox[c.SandboxID] = append(bySandbox[c.SandboxID], c)
	}
	byPod := map[string][]runtime.PodSandbox{}
	for _, s := range sandboxes {
		if uid := s.Labels[labelUID]; uid != "" { // others are not ours
			byPod[uid] = append(byPod[uid], s)
		}
	}
	for uid, list := range byPod {
		if err := m.loadPod(ctx, uid, list, bySandbox); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) loadPod(ctx context.Context, uid string, list []runtime.PodSandbox, bySandbox map[string][]runtime.Container) error {
	newest := func(a, b runtime.PodSandbox) int { return cmp.Compare(b.Metadata.Attempt, a.Metadata.Attempt) }
	slices.SortFunc(list, newest)
	st, err := m.config.Runtime.PodSandboxStatus(ctx, list[0].ID)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	w := m.pods[uid]
	orphan := w == nil && m.complete
	if w == nil {
		w = newWorker(m, uid)
		m.pods[uid] = w
	}
	m.mu.Unlock()
	w.mu.Lock()
	w.sandboxID, w.labels = st.ID, st.Labels
	w.sandbox = sandbox{id: st.ID, ready: st.State == runtime.SandboxReady, attempt: st.Metadata.Attempt, next: st.Metadata.Attempt + 1, ips: st.IPs}
	w.started = list[len(list)-1].CreatedAt
	if len(list) > 1 {
		w.oldSandbox = list[1].ID
	}
	w.mu.Unlock()
	found, err := m.loadContainers(ctx, w, list, bySandbox)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.extra = found
	if w.pod == nil {
		w.pod = orphanPod(st, found)
	}
	if orphan {
		w.deleted = true
		w.endLocked(nil)
	}
	return nil
}

// orphanPod is what is known of a pod that nobody has asked for yet.
func orphanPod(st *runtime.PodSandboxStatus, found []*instance) *Pod {
	p := &Pod{Namespace: st.Metadata.Namespace, Name: st.Metadata.Name, UID: st.Metadata.UID}
	if d, err := time.ParseDuration(st.Annotations[annotationGrace]); err == nil {
		p.Spec.TerminationGracePeriod = &d
	}
	for _, i := range found {
		p.Spec.Containers = append(p.Spec.Containers, Container{Name: i.name})
	}
	return p
}

// loadContainers returns the newest execution of each container. One before it becomes its last
// state; still older ones are removed.
func (m *Manager) loadContainers(ctx context.Context, w *worker, list []runtime.PodSandbox, bySandbox map[string][]runtime.Container) ([]*instance, error) {
	byName := map[string][]runtime.Container{}
	for _, s := range list { // newest first
		containers := bySandbox[s.ID]
		slices.SortFunc(containers, func(a, b runtime.Container) int { return cmp.Compare(b.Metadata.Attempt, a.Metadata.Attempt) })
		for _, c := range containers {
			byName[c.Metadata.Name] = append(byName[c.Metadata.Name], c)
		}
	}
	var found []*instance
	for name, executions := range byName {
		i := &instance{name: name}
		for n, c := range executions {
			st, err := m.config.Runtime.ContainerStatus(ctx, c.ID)
			if errors.Is(err, runtime.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			switch {
			case i.id == "":
				m.loadContainer(w, i, st)
			case i.last == nil && st.State == runtime.ContainerExited:
				old := &instance{}
				old.id, old.exitCode, old.reason, old.message = st.ID, st.ExitCode, st.Reason, st.Message
				old.begun, old.ended = st.StartedAt, st.FinishedAt
				i.last, i.lastID = old.terminated(), st.ID
			default:
				// Beyond what is kept, or running although a newer one was made: it must not run twice.
				if err := m.config.Runtime.RemoveContainer(ctx, executions[n].ID); err != nil {
					return nil, err
				}
			}
		}
		if i.id != "" {
			found = append(found, i)
		}
	}
	return found, nil
}

func (m *Manager) loadContainer(w *worker, i *instance, st *runtime.ContainerStatus) {
	i.id, i.sandbox, i.attempt = st.ID, st.SandboxID, st.Metadata.Attempt
	i.image = st.Image
	w.take(i, st)
	if d, err := time.ParseDuration(st.Annotations[annotationBackOff]); err == nil {
		i.crash = retry{delay: d, last: st.CreatedAt}
	}
	i.adopted = st.State == runtime.ContainerRunning
	i.running = st.Resources
}

// subscribe returns what follows the events of the runtime until ctx ends. The subscription stands
// before the first list, so that nothing falls between the two.
func (m *Manager) subscribe(ctx context.Context) (func(context.Context), error) {
	events, err := m.config.Runtime.GetContainerEvents(ctx)
	if errors.Is(err, runtime.ErrUnsupported) {
		return func(ctx context.Context) {
			every(ctx, or(m.config.Relist, time.Second), func() { m.relist(ctx) })
		}, nil
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			every(ctx, or(m.config.Relist, 5*time.Minute), func() { m.relist(ctx) })
		}()
		defer func() { <-stop }()
		for ctx.Err() == nil {
			for e, err := range events {
				if err != nil {
					m.config.Log.Warn("events of the runtime", "err", err)
					break
				}
				if e.Type == runtime.EventStopped || e.Type == runtime.EventDeleted {
					if w := m.worker(e.PodUID); w != nil {
						w.changed()
					}
				}
			}
			if events, err = m.resubscribe(ctx); err != nil {
				return // only when ctx has ended
			}
			m.relist(ctx)
		}
	}, nil
}

// resubscribe tries once a second until there are events again.
func (m *Manager) resubscribe(ctx context.Context) (events func(func(runtime.ContainerEvent, error) bool), err error) {
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if events, err := m.config.Runtime.GetContainerEvents(ctx); err == nil {
			return events, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// relist compares what the runtime has with what is known, and wakes the pods that differ.
func (m *Manager) relist(ctx context.Context) {
	containers, err := m.config.Runtime.ListContainers(ctx, runtime.ContainerFilter{})
	if err != nil {
		m.config.Log.Warn("list containers", "err", err)
		return
	}
	sandboxes, err := m.config.Runtime.ListPodSandbox(ctx, runtime.PodSandboxFilter{State: runtime.SandboxReady})
	if err != nil {
		m.config.Log.Warn("list sandboxes", "err", err)
		return
	}
	ready := make(map[string]bool, len(sandboxes))
	for _, s := range sandboxes {
		ready[s.ID] = true
	}
	runs := make(map[string]bool, len(containers))
	for _, c := range containers {
		runs[c.ID] = c.State == runtime.ContainerRunning
	}
	for _, w := range m.workers() {
		if w.differs(ready, runs) {
			w.changed()
		}
	}
}

// differs reports whether what was last reported is not so any more.
func (w *worker) differs(ready, runs map[string]bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == nil || w.status.Phase.Finished() {
		return false
	}
	if w.sandboxID != "" && !ready[w.sandboxID] {
		return true
	}
	for _, list := range [][]ContainerStatus{w.status.InitContainerStatuses, w.status.ContainerStatuses, w.status.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.State.Running != nil && !runs[c.ContainerID] {
				return true
			}
		}
	}
	return false
}
