// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// The labels that kubelet gives its sandboxes and containers, so that other tools know them.
const (
	labelName      = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
	labelUID       = "io.kubernetes.pod.uid"

	annotationGrace   = "io.kubernetes.pod.terminationGracePeriod"
	annotationBackOff = "slipway.dev/back-off"
)

// sandboxConfig is the configuration of the pod's sandbox, made once a turn.
func (w *worker) sandboxConfig(p *Pod, attempt uint32) *runtime.PodSandboxConfig {
	if w.config == nil || w.config.Metadata.Attempt != attempt {
		w.config = w.newSandboxConfig(p, attempt)
	}
	return w.config
}

func (w *worker) newSandboxConfig(p *Pod, attempt uint32) *runtime.PodSandboxConfig {
	if w.labels == nil {
		w.labels = map[string]string{labelName: p.Name, labelNamespace: p.namespace(), labelUID: p.UID}
	}
	c := &runtime.PodSandboxConfig{
		Metadata: runtime.PodSandboxMetadata{Name: p.Name, Namespace: p.namespace(), UID: p.UID, Attempt: attempt},
		Hostname: p.Spec.Hostname,
		DNS:      p.Spec.DNS,
		Labels:   w.labels,
		Security: p.Spec.Security, RuntimeHandler: p.Spec.RuntimeHandler,
		Resources: sum(p, w.m.config.MemoryCapacity),
	}
	if p.Spec.TerminationGracePeriod != nil {
		c.Annotations = map[string]string{annotationGrace: p.Spec.TerminationGracePeriod.String()}
	}
	if c.Hostname == "" && !p.Spec.HostNetwork {
		c.Hostname = p.Name
	}
	if w.m.config.Root != "" {
		c.LogDirectory = w.m.logDir(p)
	}
	node := func(use bool, mode *runtime.NamespaceMode) {
		if use {
			*mode = runtime.NamespaceNode
		}
	}
	node(p.Spec.HostNetwork, &c.Namespaces.Network)
	node(p.Spec.HostIPC, &c.Namespaces.IPC)
	if p.Spec.ShareProcessNamespace {
		c.Namespaces.PID = runtime.NamespacePod
	}
	node(p.Spec.HostPID, &c.Namespaces.PID)
	for i := range p.Spec.Containers {
		for _, port := range p.Spec.Containers[i].Ports {
			c.PortMappings = append(c.PortMappings, runtime.PortMapping{
				Protocol: port.Protocol, ContainerPort: port.ContainerPort, HostPort: port.HostPort, HostIP: port.HostIP,
			})
		}
	}
	return c
}

// start runs a container as a given attempt. What goes wrong becomes its waiting state.
func (w *worker) start(ctx context.Context, p *Pod, c *Container, i *instance, attempt uint32) {
	if !w.ensureImage(ctx, p, c, i) {
		return
	}
	fail := func(reason string, err error) {
		if ctx.Err() != nil {
			return
		}
		i.waiting = Waiting{reason, err.Error()}
		w.warn(p, c.Name, EventFailed, "Error: %v", err)
		i.retryAt = time.Now().Add(retryPause)
		w.wakeAt(i.retryAt)
	}
	config, err := w.containerConfig(ctx, p, c, attempt)
	if err != nil {
		fail(ReasonCreateContainerConfigError, err)
		return
	}
	again := i.id != "" && attempt > i.attempt
	if again {
		i.crash.next(w.m.config.CrashBackOff, i.ended, time.Now())
		config.Annotations = map[string]string{annotationBackOff: i.crash.delay.String()}
	}
	id, err := w.m.config.Runtime.CreateContainer(ctx, w.sandbox.id, config, w.sandboxConfig(p, w.sandbox.attempt))
	if err != nil {
		if errors.Is(err, runtime.ErrAlreadyExists) {
			err = errors.Join(err, w.adopt(ctx, i, c.Name, attempt))
		}
		fail(ReasonCreateContainerError, err)
		return
	}
	w.event(p, c.Name, EventCreated, "Created container: %s", c.Name)
	w.succeed(ctx, i, again)
	i.id, i.sandbox, i.attempt, i.state, i.image, i.applied = id, w.sandbox.id, attempt, runtime.ContainerCreated, c.Image, c.Resources
	i.waiting, i.preStopped = Waiting{}, false
	if err := w.m.config.Runtime.StartContainer(ctx, id); err != nil {
		fail(ReasonRunContainerError, err)
		if w.look(ctx, i) != nil || i.state == runtime.ContainerExited {
			w.changed() // a start that failed for good is restarted with back-off
		}
		return
	}
	w.event(p, c.Name, EventStarted, "Started container %s", c.Name)
	if err := w.look(ctx, i); err != nil {
		w.changed()
		return
	}
	w.begun(ctx, p, c, i)
}

// begun does what follows the start of a container: its hook, then its probes.
func (w *worker) begun(ctx context.Context, p *Pod, c *Container, i *instance) {
	if c.PostStart != nil && i.state == runtime.ContainerRunning {
		var err error
		w.m.queue.aside(func() { err = w.hook(ctx, p, c, i, *c.PostStart) })
		if err != nil && ctx.Err() == nil {
			w.warn(p, c.Name, EventFailedPostStartHook, "PostStartHook failed: %v", err)
			w.m.queue.aside(func() { w.stop(ctx, p, c, i, time.Now().Add(p.grace()), "FailedPostStartHook") })
			w.look(ctx, i)
			i.waiting = Waiting{ReasonPostStartHookError, "PostStartHook failed: " + err.Error()}
			w.changed()
			return
		}
	}
	if i.state == runtime.ContainerRunning {
		w.startProbes(p, c, i, nil)
	}
}

// succeed makes the present execution the last one, and removes the one before it.
func (w *worker) succeed(ctx context.Context, i *instance, again bool) {
	if i.id == "" || !again {
		return
	}
	if i.lastID != "" {
		if err := w.m.config.Runtime.RemoveContainer(ctx, i.lastID); err != nil {
			w.m.config.Log.Warn("remove old container", "id", i.lastID, "err", err)
		}
	}
	i.last, i.lastID = i.terminated(), i.id
}

// adopt finds the container whose creation was not answered, so that the next turn goes on from it.
func (w *worker) adopt(ctx context.Context, i *instance, name string, attempt uint32) error {
	list, err := w.m.config.Runtime.ListContainers(ctx, runtime.ContainerFilter{SandboxID: w.sandbox.id})
	for _, c := range list {
		if c.Metadata.Name == name && c.Metadata.Attempt == attempt {
			i.id, i.sandbox, i.attempt, i.state = c.ID, c.SandboxID, attempt, runtime.ContainerUnknown
			w.changed()
		}
	}
	return err
}

func (w *worker) containerConfig(ctx context.Context, p *Pod, c *Container, attempt uint32) (*runtime.ContainerConfig, error) {
	env, err := w.environment(ctx, p, c)
	if err != nil {
		return nil, err
	}
	mounts, err := w.containerMounts(p, c, attempt)
	if err != nil {
		return nil, err
	}
	config := &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: c.Name, Attempt: attempt},
		Image:    runtime.ImageSpec{Image: c.Image, RuntimeHandler: p.Spec.RuntimeHandler},
		Command:  expandAll(c.Command, env), Args: expandAll(c.Args, env),
		WorkingDir: c.WorkingDir, Env: env, Mounts: mounts,
		Labels: w.labels, // the sandbox's: one map for a pod, since a simulated node has very many
		Stdin:  c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
		Resources: cgroup(p, c.Resources, w.m.config.MemoryCapacity),
		Security:  c.Security, StopSignal: c.StopSignal,
	}
	if w.m.config.Root != "" {
		config.LogPath = filepath.Join(c.Name, strconv.Itoa(int(attempt))+".log")
	}
	if p.Spec.HostPID {
		config.Namespaces.PID = runtime.NamespaceNode
	} else if p.Spec.ShareProcessNamespace {
		config.Namespaces.PID = runtime.NamespacePod
	}
	if c.TargetContainer != "" {
		for _, t := range w.list {
			if t.name == c.TargetContainer && t.id != "" {
				config.Namespaces.PID, config.Namespaces.TargetID = runtime.NamespaceTarget, t.id
			}
		}
	}
	return config, nil
}

func (m *Manager) logDir(p *Pod) string {
	return filepath.Join(m.config.Root, "logs", p.namespace()+"_"+p.Name+"_"+p.UID)
}

func (m *Manager) podDir(uid string) string { return filepath.Join(m.config.Root, "pods", uid) }

func (m *Manager) volumeDir(uid, name string) string {
	return filepath.Join(m.podDir(uid), "volumes", name)
}

// maxMessage is how much of a termination message is kept, and of a log in its
// place: 4096 bytes, and 2048 bytes of the last 80 lines.
const (
	maxMessage      = 4096
	maxLogMessage   = 2048
	maxMessageLines = 80
)

func (w *worker) messageFile(name string, attempt uint32) string {
	return filepath.Join(w.m.podDir(w.uid), "messages", name, strconv.Itoa(int(attempt)))
}

// terminationMessage is what an exited container left behind. It needs w.mu.
func (w *worker) terminationMessage(i *instance) string {
	if w.m.config.Root == "" || w.pod == nil {
		return ""
	}
	var c *Container
	for n, o := range w.list {
		if o == i {
			c = w.spec(w.pod, n)
		}
	}
	if c == nil || c.Name != i.name {
		return ""
	}
	if c.TerminationMessagePath != "" {
		b, err := os.ReadFile(w.messageFile(i.name, i.attempt))
		if err == nil && len(b) > 0 {
			return string(b[:min(len(b), maxMessage)])
		}
	}
	if c.MessageFromLog && i.exitCode != 0 && i.logPath != "" {
		return tailOf(i.logPath)
	}
	return ""
}

// defaultPullPolicy depends on the tag.
func defaultPullPolicy(image string) PullPolicy {
	if strings.Contains(image, "@") {
		return PullIfNotPresent
	}
	name := image[strings.LastIndexByte(image, '/')+1:]
	if _, tag, ok := strings.Cut(name, ":"); ok && tag != "latest" {
		return PullIfNotPresent
	}
	return PullAlways
}

// ensureImage makes the container's image present, or says what it waits for.
func (w *worker) ensureImage(ctx context.Context, p *Pod, c *Container, i *instance) bool {
	if c.Image == "" {
		return true
	}
	images := w.m.config.Images
	if images == nil {
		i.waiting = Waiting{ReasonErrImagePull, "this runtime has no images: Config.Images is nil"}
		return false
	}
	spec := runtime.ImageSpec{Image: c.Image, RuntimeHandler: p.Spec.RuntimeHandler}
	policy := c.ImagePullPolicy
	if policy == "" {
		policy = defaultPullPolicy(c.Image)
	}
	if policy != PullAlways {
		image, err := images.ImageStatus(ctx, spec)
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			w.warn(p, c.Name, EventInspectFailed, "Failed to inspect image %q: %v", c.Image, err)
			i.waiting = Waiting{ReasonImageInspectError, fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err)}
			w.wakeAt(time.Now().Add(retryPause))
			return false
		case image != nil:
			w.event(p, c.Name, EventPulled, "Container image %q already present on machine", c.Image)
			return true
		case policy == PullNever:
			text := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
			w.warn(p, c.Name, EventErrImageNeverPull, "%s", text)
			i.waiting = Waiting{ReasonErrImageNeverPull, text}
			w.wakeAt(time.Now().Add(retryPause))
			return false
		}
	}
	return w.pullImage(ctx, p, c, i, spec)
}

func (w *worker) pullImage(ctx context.Context, p *Pod, c *Container, i *instance, spec runtime.ImageSpec) bool {
	now := time.Now()
	if until := i.pull.last.Add(i.pull.delay); i.pull.delay > 0 && now.Before(until) {
		if i.waiting.Reason != ReasonImagePullBackOff {
			w.event(p, c.Name, EventBackOff, "Back-off pulling image %q", c.Image)
			w.warn(p, c.Name, EventFailed, "Error: %s", ReasonImagePullBackOff)
		}
		i.waiting = Waiting{ReasonImagePullBackOff, fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, i.pullErr.reason, i.pullErr.message)}
		w.wakeAt(until)
		return false
	}
	w.event(p, c.Name, EventPulling, "Pulling image %q", c.Image)
	var err error
	w.m.queue.aside(func() {
		var auth *runtime.AuthConfig
		if w.m.config.Auth != nil {
			if auth, err = w.m.config.Auth(ctx, p, c.Image); err != nil {
				return
			}
		}
		_, err = w.m.config.Images.PullImage(ctx, spec, auth, w.sandboxConfig(p, w.sandbox.attempt))
	})
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		i.pull.next(w.m.config.ImageBackOff, time.Now(), time.Now())
		reason := ReasonErrImagePull
		if errors.Is(err, runtime.ErrInvalid) {
			reason = ReasonInvalidImageName
		}
		i.pullErr = failure{reason, err.Error()}
		w.warn(p, c.Name, EventFailed, "Failed to pull image %q: %v", c.Image, err)
		w.warn(p, c.Name, EventFailed, "Error: %s", reason)
		i.waiting = Waiting{reason, err.Error()}
		w.wakeAt(time.Now().Add(time.Second)) // to say that it is in back-off
		return false
	}
	i.pull, i.pullErr = retry{}, failure{}
	w.event(p, c.Name, EventPulled, "Successfully pulled image %q in %v", c.Image, time.Since(now).Round(time.Millisecond))
	return true
}
