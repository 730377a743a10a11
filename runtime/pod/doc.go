// SPDX-License-Identifier: Apache-2.0

// Package pod runs pods on a container runtime, as kubelet does: containers in
// order, probes, restarts with back-off, graceful stops, volumes, and a status in Kubernetes' words.
//
//	m := pod.New(pod.Config{
//		Runtime:  rt, // any runtime.RuntimeService
//		OnStatus: func(p *pod.Pod, s *pod.Status) { fmt.Println(p.Name, s.Phase) },
//	})
//	go m.Run(ctx)
//	err := m.Set(&pod.Pod{Name: "web", UID: "1", Spec: pod.Spec{
//		Containers: []pod.Container{{Name: "web", Command: []string{"nginx"}}},
//	}})
//	...
//	err = m.Delete("1", nil) // SIGTERM, 30 s, SIGKILL; then OnRemoved is called
//
// # What is desired
//
// [Manager.Set] says how a pod should be, [Manager.Delete] that it should go, [Manager.Sync] what all
// pods are. None of them waits. After a restart of the agent a new manager finds what runs in the runtime:
// call Sync once with all pods that should run, and what is not among them is stopped. Until
// then the pods that it found are left alone.
//
// # How it works
//
// Each pod is worked on in turns, never two at once. A turn compares what is
// desired with what the runtime has, does what can be done now, and reports the status if it has
// changed. It comes about when something happened: a call, an event of the runtime, a probe
// with another result, a timer. Between turns a pod is a record and, at most, a timer; it has no goroutine.
//
//	Set ─┐                        ┌─▶ runtime calls
//	event┼─▶ queue ─▶ turn of pod ┼─▶ OnStatus, OnEvent
//	timer┘                        └─▶ next timer
//
// Nothing is kept but what the runtime keeps: sandboxes and containers carry the
// pod's identity in labels and the back-off in an annotation, and volumes and logs are below Config.Root.
//
// # Order
//
// For one pod, OnStatus is called in the order of the changes and never twice at once; the last
// call before OnRemoved has the final state of the containers. OnEvent may be called from several
// goroutines. Different pods are independent.
//
// # Errors
//
// Set returns what is wrong with a pod. What goes wrong later is told as
// Kubernetes does, in the container's waiting state (ErrImagePull, CreateContainerConfigError,
// CreateContainerError, RunContainerError, CrashLoopBackOff, ...) and in an event, and is tried again.
//
// # Differences from kubelet
//
// A restart back-off survives the agent. A container that was ready stays ready over a
// restart of the agent, if Pod.Last says so. A resize is never deferred: whether there is
// room is the caller's question. Of events that repeat, new ones are always told, and the repeats of a pod take
// turns. Swap, devices and topology are left out.
//
// # Room on the disk
//
// Limits of emptyDirs and of ephemeral storage are checked every 10 seconds, and images that nobody uses are
// removed by [ImageGC], always. With Config.Eviction, a shortage of memory or disk ends pods in kubelet's
// order, after all unused images are gone.
//
// # Testing
//
// With package fake the whole life cycle runs in testing/synctest's virtual
// time: hours of back-off take milliseconds.
package pod
