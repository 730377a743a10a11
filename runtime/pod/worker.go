// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// worker takes one pod through its life in turns. A turn looks at what is
// desired and at what is, does what can be done now, reports, and says when to look again. There
// is never more than one turn of a pod at a time.
type worker struct {
	m   *Manager
	uid string

	// What others say, and what others read; guarded by mu.
	mu         sync.Mutex
	pod        *Pod
	desired    bool // Set was called; otherwise the pod was found in the runtime
	deleted    bool
	killBy     time.Time // when grace ends, of a pod that is deleted or failed
	failure    *failure
	conditions []Condition // what SetCondition was given
	news       bool        // the runtime changed something: look
	content    bool        // the sources of volumes may have changed
	state      turnState
	cancel     context.CancelFunc // of the turn in progress
	timer      *time.Timer
	timerAt    time.Time
	status     *Status
	sandboxID  string
	cleared    bool // see isCleared

	// Owned by the turn.
	sandbox     sandbox
	labels      map[string]string         // of the sandbox and the containers
	config      *runtime.PodSandboxConfig // see sandboxConfig; nil between turns
	oldSandbox  string                    // the one before, kept for the logs and exit codes in it
	list        []*instance
	extra       []*instance // of containers that are not in the specification any more
	started     time.Time
	mounted     bool
	mounts      map[string]string // host paths of mounted volumes, by name
	mountRetry  retry
	over        bool // all containers were stopped for good
	resizeError string
}

type turnState uint8

const (
	idle turnState = iota
	queued
	running
	runningAgain // and another turn is wanted
)

type failure struct{ reason, message string }

type sandbox struct {
	id      string
	ready   bool
	attempt uint32
	next    uint32 // the attempt that was not used yet
	ips     []string
}

// instance is the newest execution of one container.
type instance struct {
	kind    kind
	ready   bool
	started bool // running, its postStart hook and startup probe done
	// preStopped: the preStop hook has run, or was given up.
	preStopped bool
	kill       string         // why a probe wants the container to end; empty: it does not
	killGrace  *time.Duration // instead of the pod's; nil: the pod's

	name     string
	id       string // empty: not created
	sandbox  string
	attempt  uint32
	state    runtime.ContainerState
	image    string // as it was asked for
	imageRef string
	logPath  string
	exitCode int
	reason   string
	message  string
	begun    time.Time
	ended    time.Time
	applied  Resources // in force

	retryAt time.Time // not to be started before, after an error of the runtime
	waiting Waiting   // why it is not started
	last    *Terminated
	lastID  string // of the execution before, which is kept
	crash   retry
	pull    retry
	pullErr failure
	// Of a container that was found running: its probes are not begun, and its resources are known in
	// the runtime's terms only.
	adopted bool
	running *runtime.Resources
	probes  *probes // guarded by worker.mu; nil without probes
}

type kind uint8

const (
	initKind kind = iota
	sidecarKind
	mainKind
	ephemeralKind
)

func newWorker(m *Manager, uid string) *worker { return &worker{m: m, uid: uid} }

// wake asks for a turn.
func (w *worker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakeLocked()
}

func (w *worker) wakeLocked() {
	switch w.state {
	case idle:
		w.state = queued
		w.m.queue.add(w)
	case running:
		w.state = runningAgain
	}
}

// wakeAt asks for a turn at a time, or earlier.
func (w *worker) wakeAt(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil && !w.timerAt.IsZero() && !at.Before(w.timerAt) {
		return
	}
	d := time.Until(at)
	w.timerAt = at
	if w.timer != nil {
		w.timer.Reset(d)
		return
	}
	w.timer = time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.timerAt = time.Time{}
		w.wakeLocked()
	})
}

func (w *worker) stopTimers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	for _, i := range w.list {
		i.probes.stop()
	}
}

func (w *worker) set(p *Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deleted {
		return // for good: the same UID never comes back
	}
	w.pod, w.desired, w.content = p, true, true
	w.wakeLocked()
}

func (w *worker) setCondition(c Condition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	set := slices.Clone(w.conditions)
	if i := slices.IndexFunc(set, func(o Condition) bool { return o.Type == c.Type }); i >= 0 {
		set[i] = c
	} else {
		set = append(set, c)
	}
	w.conditions = set
	w.wakeLocked()
}

// changed says that the runtime has news of this pod.
func (w *worker) changed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.news = true
	w.wakeLocked()
}

func (w *worker) delete(grace *time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleted = true
	w.endLocked(grace)
}

func (w *worker) fail(reason, message string, grace *time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil && !(w.status != nil && w.status.Phase.Finished()) {
		w.failure = &failure{reason, message}
		w.endLocked(grace)
	}
}

// endLocked sets or shortens the time that is left, and interrupts what the
// pod is doing.
func (w *worker) endLocked(grace *time.Duration) {
	d := defaultGrace
	if grace != nil {
		d = *grace
	} else if w.pod != nil {
		d = w.pod.grace()
	}
	if by := time.Now().Add(d); w.killBy.IsZero() || by.Before(w.killBy) {
		w.killBy = by
		if w.cancel != nil {
			w.cancel()
		}
	}
	w.wakeLocked()
}

// inputs is what a turn acts on.
type inputs struct {
	pod              *Pod
	desired          bool
	deleted          bool
	failure          *failure
	set              []Condition
	news, newContent bool
}

func (w *worker) turn(base context.Context) {
	ctx, cancel := context.WithCancel(base)
	defer cancel()
	w.mu.Lock()
	w.state, w.cancel = running, cancel
	in := inputs{w.pod, w.desired, w.deleted, w.failure, w.conditions, w.news, w.content}
	w.news, w.content = false, false
	for _, i := range w.list {
		i.probes.read(i)
	}
	w.mu.Unlock()

	removed := w.work(ctx, in)
	w.config = nil

	w.mu.Lock()
	w.cancel = nil
	again := w.state == runningAgain
	w.state = idle
	if removed {
		w.state = runningAgain // never again
	} else if again {
		w.wakeLocked()
	}
	w.mu.Unlock()
	if removed {
		w.m.forget(w)
		if w.m.config.OnRemoved != nil {
			w.m.config.OnRemoved(in.pod)
		}
	}
}

// retryPause is how long to wait after an error of the runtime.
const retryPause = 10 * time.Second

func (w *worker) work(ctx context.Context, in inputs) (removed bool) {
	p := in.pod
	w.match(p, in.desired)
	if in.news {
		if err := w.refresh(ctx); err != nil && ctx.Err() == nil {
			w.m.config.Log.Warn("look at pod", "pod", p.String(), "err", err)
			w.mu.Lock()
			w.news = true
			w.mu.Unlock()
			w.wakeAt(time.Now().Add(time.Second))
			return false
		}
	}
	switch {
	case in.deleted:
		removed = w.end(ctx, p, true)
	case !in.desired: // found, and nobody has said yet whether it is wanted
		return false
	case in.failure != nil:
		w.end(ctx, p, false)
	case w.finished(p):
		w.end(ctx, p, false)
	default:
		w.run(ctx, p, in)
	}
	if in.desired {
		w.report(p, in)
	}
	return removed
}

// match brings list into the order of the specification.
func (w *worker) match(p *Pod, desired bool) {
	if !desired && len(w.list) > 0 {
		return
	}
	n := len(p.Spec.InitContainers) + len(p.Spec.Containers) + len(p.Spec.EphemeralContainers)
	if len(w.list) == n && len(w.extra) == 0 && w.matches(p) {
		return
	}
	known := map[string]*instance{}
	for _, i := range slices.Concat(w.list, w.extra) {
		known[i.name] = i
	}
	var list []*instance
	add := func(containers []Container, k kind) {
		for c := range containers {
			i := known[containers[c].Name]
			if i == nil {
				i = &instance{name: containers[c].Name, applied: containers[c].Resources}
			}
			if i.kind = k; k == initKind && isSidecar(&containers[c]) {
				i.kind = sidecarKind
			}
			delete(known, i.name)
			list = append(list, i)
		}
	}
	add(p.Spec.InitContainers, initKind)
	add(p.Spec.Containers, mainKind)
	add(p.Spec.EphemeralContainers, ephemeralKind)
	w.mu.Lock()
	w.list = list
	w.mu.Unlock()
	w.extra = nil
	for _, i := range known {
		w.extra = append(w.extra, i)
	}
	if w.started.IsZero() {
		w.started = time.Now()
	}
}

func (w *worker) matches(p *Pod) bool {
	for n, i := range w.list {
		if i.name != w.spec(p, n).Name {
			return false
		}
	}
	return true
}

// spec is the specification of the nth instance.
func (w *worker) spec(p *Pod, n int) *Container {
	for _, list := range [][]Container{p.Spec.InitContainers, p.Spec.Containers, p.Spec.EphemeralContainers} {
		if n < len(list) {
			return &list[n]
		}
		n -= len(list)
	}
	return nil
}

// refresh asks the runtime for the state of the containers and the sandbox.
func (w *worker) refresh(ctx context.Context) error {
	exits := false
	for _, i := range slices.Concat(w.list, w.extra) {
		if i.id == "" || i.state == runtime.ContainerExited {
			continue
		}
		if err := w.look(ctx, i); err != nil {
			return err
		}
		exits = exits || i.state == runtime.ContainerExited
	}
	if w.sandbox.id == "" || !(exits || w.sandbox.ready) {
		return nil
	}
	st, err := w.m.config.Runtime.PodSandboxStatus(ctx, w.sandbox.id)
	if errors.Is(err, runtime.ErrNotFound) {
		w.sandbox.ready = false
		return nil
	}
	if err != nil {
		return err
	}
	w.sandbox.ready, w.sandbox.ips = st.State == runtime.SandboxReady, st.IPs
	return nil
}

// look brings an instance up to date with the runtime.
func (w *worker) look(ctx context.Context, i *instance) error {
	st, err := w.m.config.Runtime.ContainerStatus(ctx, i.id)
	if errors.Is(err, runtime.ErrNotFound) {
		if i.state != runtime.ContainerExited {
			i.state, i.exitCode, i.reason = runtime.ContainerExited, 137, ReasonContainerStatusUnknown
			i.message, i.ended = "The container could not be located when the pod was terminated", time.Now()
			w.stopped(i)
		}
		return nil
	}
	if err != nil {
		return err
	}
	w.take(i, st)
	return nil
}

func (w *worker) take(i *instance, st *runtime.ContainerStatus) {
	ended := i.state != runtime.ContainerExited && st.State == runtime.ContainerExited
	i.state, i.imageRef, i.logPath = st.State, st.ImageRef, st.LogPath
	i.begun, i.ended = st.StartedAt, st.FinishedAt
	i.exitCode, i.reason, i.message = st.ExitCode, st.Reason, st.Message
	if st.State == runtime.ContainerExited && i.ended.IsZero() {
		i.ended = time.Now()
	}
	if ended {
		w.stopped(i)
	}
}

// stopped ends what goes with a running container.
func (w *worker) stopped(i *instance) {
	i.ready, i.started, i.kill = false, false, ""
	w.mu.Lock()
	defer w.mu.Unlock()
	i.probes.stop()
	i.probes = nil
	if m := w.terminationMessage(i); m != "" {
		i.message = m
	}
}

// finished reports whether nothing of the pod will ever run again.
func (w *worker) finished(p *Pod) bool {
	if w.over {
		return true
	}
	if p.Last != nil && p.Last.Phase.Finished() {
		return true
	}
	policy := p.restartPolicy()
	if policy == RestartAlways || len(w.list) == 0 {
		return false
	}
	for n, i := range w.list {
		switch {
		case i.kind == initKind && i.state == runtime.ContainerExited && i.exitCode != 0 && policy == RestartNever:
			return true
		case i.kind != mainKind:
		case i.id == "" || i.state != runtime.ContainerExited || w.restarts(p, w.spec(p, n), i):
			return false
		}
	}
	return true
}

// restarts reports whether an exited container is to be run again.
func (w *worker) restarts(p *Pod, c *Container, i *instance) bool {
	switch i.kind {
	case sidecarKind:
		return true
	case ephemeralKind:
		return false
	case initKind:
		return i.exitCode != 0 && p.restartPolicy() != RestartNever
	}
	switch p.restartPolicy() {
	case RestartNever:
		return false
	case RestartOnFailure:
		return i.exitCode != 0
	}
	return true
}
