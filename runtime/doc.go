// SPDX-License-Identifier: Apache-2.0

// Package runtime is the seam between an orchestrator and what runs on a
// machine: the interfaces of the Kubernetes Container Runtime Interface (CRI
// v1, https://github.com/kubernetes/cri-api) in plain Go types.
//
// This runs one real process, with a fake in its place in tests (main has called
// process.Main first, see there):
//
//	rt, err := process.New(process.Options{Root: dir})
//	...
//	defer rt.Close()
//	sandbox := &runtime.PodSandboxConfig{
//		Metadata: runtime.PodSandboxMetadata{Name: "web", Namespace: "default", UID: "1"},
//	}
//	pod, err := rt.RunPodSandbox(ctx, sandbox)
//	id, err := rt.CreateContainer(ctx, pod, &runtime.ContainerConfig{
//		Metadata: runtime.ContainerMetadata{Name: "web"},
//		Command:  []string{"sleep", "60"},
//	}, sandbox)
//	err = rt.StartContainer(ctx, id)
//
// Most programs want more than that: pods whose containers start in order, are
// probed, restarted with back-off and stopped gracefully. That is package
// [github.com/slipway-dev/slipway/runtime/pod], which needs nothing but the two
// interfaces here.
//
// # The packages
//
//   - runtime: the interfaces [RuntimeService] and [ImageService], and their types.
//   - runtime/fake: everything in memory and scriptable, for tests and simulated nodes.
//   - runtime/process: processes of this machine, without root and without images.
//   - runtime/runtimetest: the conformance suite; run it against your own implementation.
//   - runtime/pod: what kubelet does around a runtime.
//   - runtime/probe, runtime/volume, runtime/crilog: parts of the above that stand alone.
//
// # Terms
//
// A sandbox is the place in which the containers of one pod run: their network
// address, their cgroup, their log directory. A container is one execution of
// one program; a restart is a new container with a higher attempt. An image is
// what a container's file system is made from. IDs are chosen by the runtime,
// are never reused, and mean nothing to callers.
//
// # Life cycle
//
//	RunPodSandbox      StopPodSandbox        RemovePodSandbox
//	     └──▶ SandboxReady ──▶ SandboxNotReady ──▶ (gone)
//
//	CreateContainer    StartContainer    exit or StopContainer    RemoveContainer
//	     └──▶ ContainerCreated ──▶ ContainerRunning ──▶ ContainerExited ──▶ (gone)
//
// A container never goes back: what has exited is not started again.
// A container in state [ContainerUnknown] is one of which the runtime lost track; it
// is treated as running until it was stopped.
//
// # Idempotency
//
// Each call either has its whole effect or none. A call whose answer was lost
// may be repeated safely:
//
//   - Stop and Remove calls succeed when there is nothing left to do, also for an
//     ID that was never known.
//   - A sandbox is unique by (UID, attempt) and a container by (sandbox, name,
//     attempt). Creating it a second time fails with [ErrAlreadyExists]; the caller
//     finds the first one by listing. Nothing is therefore ever run twice.
//   - StartContainer on anything but a created container fails with [ErrState].
//
// # Errors
//
// Errors wrap one of the sentinels of this package and name the object. A
// cancelled context is reported as its own error, wrapped. The texts are meant for people
// and reach them as container states and events, so they say what would be right.
//
// # Concurrency
//
// All methods may be called at the same time from any number of goroutines.
// What a method returns belongs to the caller, except maps, which are shared
// and must not be changed. What a method is given may be kept by the runtime and
// must not be changed afterwards.
package runtime
