// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/volume"
)

// Config says what a manager works with. Only Runtime is required.
type Config struct {
	Runtime runtime.RuntimeService
	// Images is where images come from; nil: Runtime, if it is an ImageService too.
	Images runtime.ImageService
	// Root is the directory for volumes, logs and termination messages. Empty: none of
	// these, as for simulated nodes.
	Root string

	// OnStatus is called after each change of a pod's status, for one pod in order and
	// never twice at once. It delays only this pod.
	OnStatus func(*Pod, *Status)
	// OnRemoved is called once for each pod that was deleted, when nothing of it is left.
	OnRemoved func(*Pod)
	// OnEvent is called for what happens to pods, in Kubernetes' words. What repeats is
	// told with a count, and not each time: see Event.
	OnEvent func(Event)

	// References finds configMaps and secrets; nil: there are none.
	References References
	// Drivers provide CSI volumes, by name.
	Drivers map[string]volume.Driver
	// Auth returns what a registry wants to know for an image; nil: nothing.
	Auth func(ctx context.Context, p *Pod, image string) (*runtime.AuthConfig, error)
	// Probe replaces how probes are done, for tests in virtual time; nil: for real.
	// An error is a failed probe.
	Probe func(ctx context.Context, p *Pod, container string, h Handler) error

	HostIP         string // this machine's address, for status and references
	MemoryCapacity int64  // bytes, for OOM scores; zero: unknown

	CrashBackOff, ImageBackOff BackOff
	Logs                       LogLimits
	Eviction                   *Eviction // nil: never
	// ImageGC removes images that nobody uses. It is done if Images is there, and
	// for all such images before a pod is evicted for a shortage of disk; NoImageGC leaves it to others.
	ImageGC   ImageGC
	NoImageGC bool
	// Relist is how often the runtime is asked for everything, to find what an event
	// did not tell. Zero: 5 min, or 1 s if the runtime has no events.
	Relist time.Duration
	// Refresh is how often the content of volumes is compared with its
	// sources. Zero: 1 min.
	Refresh time.Duration
	// Workers is how many pods are worked on at a time. A pod that waits (for an image, a hook, a
	// container that stops) does not count. Zero: 64.
	Workers int
	// Log gets what no event tells; nil discards it.
	Log *slog.Logger
}

// Manager keeps pods running on one runtime. Make one with [New], then call Run.
type Manager struct {
	config Config
	queue  queue

	mu       sync.Mutex
	pods     map[string]*worker // by UID
	complete bool               // Sync was called: what is not desired is an orphan

	events   correlator
	pressure pressure
	images   imageUse
	volumes  sync.Mutex // held while it is found out whether a volume is used
}

// New returns a manager that does nothing until Run. It panics if there is no Runtime.
func New(c Config) *Manager {
	if c.Runtime == nil {
		panic("pod: Config.Runtime is nil: set it to a runtime, for example fake.New(fake.Options{})")
	}
	if c.Images == nil {
		c.Images, _ = c.Runtime.(runtime.ImageService)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Refresh <= 0 {
		c.Refresh = time.Minute
	}
	if c.Workers <= 0 {
		c.Workers = 64
	}
	c.CrashBackOff = c.CrashBackOff.withDefaults()
	c.ImageBackOff = c.ImageBackOff.withDefaults()
	c.Logs = c.Logs.withDefaults()
	c.ImageGC = c.ImageGC.withDefaults()
	if c.Eviction != nil && c.Eviction.Signals == nil {
		e := *c.Eviction
		e.Signals = Machine(c.Root, c.Images)
		c.Eviction = &e
	}
	return &Manager{config: c, pods: map[string]*worker{}, queue: queue{limit: c.Workers}}
}

// Run works until ctx ends, and returns after the last goroutine that it
// started. Containers go on running: another manager on the same runtime takes them over. It may be called once.
//
// It first takes in what the runtime has, and fails if it can't list that.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := m.subscribe(ctx)
	if err == nil {
		err = m.load(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the pods of the runtime: %w", err)
	}
	m.queue.open(ctx)
	m.enqueueAll()
	var wg sync.WaitGroup
	wg.Go(func() { watch(ctx) })
	wg.Go(func() { every(ctx, m.config.Refresh, func() { m.refreshVolumes() }) })
	if m.config.Root != "" {
		wg.Go(func() { every(ctx, m.config.Logs.Interval, func() { m.rotateLogs(ctx) }) })
		wg.Go(func() { every(ctx, storageInterval, func() { m.enforceStorage(ctx) }) })
	}
	if m.config.Images != nil && !m.config.NoImageGC {
		wg.Go(func() { m.collectImages(ctx) })
	}
	if m.config.Eviction != nil {
		wg.Go(func() { m.evict(ctx) })
	}
	<-ctx.Done()
	m.stopTimers()
	m.queue.close()
	wg.Wait()
	return nil
}

// every calls f at intervals until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// ErrUnknownPod: no pod has this UID, or no container in it this name.
var ErrUnknownPod = errors.New("unknown pod or container")

// Set makes p the desired state of the pod with its UID: a new pod is started, a known one
// changed. Resources change in place, ephemeral containers are added, and a container whose
// image changed is restarted; other changes of a running container have no effect until it
// restarts. It fails only if the pod is invalid, and does not wait.
func (m *Manager) Set(p *Pod) error {
	if err := Validate(p); err != nil {
		return err
	}
	m.mu.Lock()
	w := m.pods[p.UID]
	if w == nil {
		w = newWorker(m, p.UID)
		w.pod = p // before anybody can see it
		m.pods[p.UID] = w
	}
	m.mu.Unlock()
	w.set(p)
	return nil
}

// Sync makes pods all the desired pods: as Set for each, and every other pod
// that the manager knows or found in the runtime is stopped gracefully and removed. Call it once
// after a restart, when all desired pods are known. If a pod is invalid nothing changes.
func (m *Manager) Sync(pods []*Pod) error {
	want := make(map[string]bool, len(pods))
	for _, p := range pods {
		if err := Validate(p); err != nil {
			return err
		}
		want[p.UID] = true
	}
	for _, p := range pods {
		if err := m.Set(p); err != nil {
			return err
		}
	}
	m.mu.Lock()
	m.complete = true
	var rest []*worker
	for uid, w := range m.pods {
		if !want[uid] {
			rest = append(rest, w)
		}
	}
	m.mu.Unlock()
	for _, w := range rest {
		w.delete(nil)
	}
	return nil
}

// Delete stops a pod and removes it, with its volumes and logs. A nil grace is the pod's own; a
// second call can only shorten it. It does not wait: OnRemoved tells the end. A pod that was never known is
// an error that wraps ErrUnknownPod.
func (m *Manager) Delete(uid string, grace *time.Duration) error {
	w := m.worker(uid)
	if w == nil {
		return fmt.Errorf("delete pod %s: %w", uid, ErrUnknownPod)
	}
	w.delete(grace)
	return nil
}

// Evict ends a pod as failed, with a reason and a message. Its status stays until it is deleted.
func (m *Manager) Evict(uid, reason, message string, grace *time.Duration) error {
	w := m.worker(uid)
	if w == nil {
		return fmt.Errorf("evict pod %s: %w", uid, ErrUnknownPod)
	}
	w.fail(reason, message, grace)
	return nil
}

// SetCondition sets a condition that someone else decides, such as a readiness gate.
func (m *Manager) SetCondition(uid string, c Condition) error {
	w := m.worker(uid)
	if w == nil {
		return fmt.Errorf("condition %s of pod %s: %w", c.Type, uid, ErrUnknownPod)
	}
	w.setCondition(c)
	return nil
}

// Status returns what was last reported of a pod, nil if nothing was.
func (m *Manager) Status(uid string) *Status {
	w := m.worker(uid)
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Container returns the runtime's ID of the newest container of that name, for exec, attach and stats.
func (m *Manager) Container(uid, name string) (string, error) {
	st := m.Status(uid)
	if st != nil {
		for _, list := range [][]ContainerStatus{st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses} {
			for _, c := range list {
				if c.Name == name && c.ContainerID != "" {
					return c.ContainerID, nil
				}
			}
		}
	}
	return "", fmt.Errorf("container %s of pod %s: %w, or it has not run yet", name, uid, ErrUnknownPod)
}

// Sandbox returns the runtime's ID of the pod's sandbox, for port forwarding and stats.
func (m *Manager) Sandbox(uid string) (string, error) {
	w := m.worker(uid)
	if w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.sandboxID != "" {
			return w.sandboxID, nil
		}
	}
	return "", fmt.Errorf("sandbox of pod %s: %w, or it has none yet", uid, ErrUnknownPod)
}

func (m *Manager) worker(uid string) *worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pods[uid]
}

// workers is a snapshot of all pods.
func (m *Manager) workers() []*worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*worker, 0, len(m.pods))
	for _, w := range m.pods {
		list = append(list, w)
	}
	return list
}

func (m *Manager) forget(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pods[w.uid] == w {
		delete(m.pods, w.uid)
	}
}

func (m *Manager) enqueueAll() {
	for _, w := range m.workers() {
		w.wake()
	}
}

func (m *Manager) stopTimers() {
	for _, w := range m.workers() {
		w.stopTimers()
	}
}
