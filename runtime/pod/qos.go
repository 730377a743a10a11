// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"github.com/slipway-dev/slipway/runtime"
)

// QOSClass says who has to go first when resources run short.
type QOSClass string

// The classes, the first to go last.
const (
	BestEffort QOSClass = "BestEffort" // no container asks for anything
	Burstable  QOSClass = "Burstable"
	Guaranteed QOSClass = "Guaranteed" // each container's CPU and memory limits equal its requests
)

// QOS returns the class of a pod.
func QOS(p *Pod) QOSClass {
	guaranteed, any := true, false
	look := func(list []Container) {
		for i := range list { // not Concat: this is asked several times for each of very many pods
			r := list[i].Resources.withDefaults()
			if r.Requests.CPU > 0 || r.Requests.Memory > 0 || r.Limits.CPU > 0 || r.Limits.Memory > 0 {
				any = true
			}
			if r.Limits.CPU == 0 || r.Limits.Memory == 0 || r.Requests.CPU != r.Limits.CPU || r.Requests.Memory != r.Limits.Memory {
				guaranteed = false
			}
		}
	}
	look(p.Spec.InitContainers)
	look(p.Spec.Containers)
	switch {
	case !any:
		return BestEffort
	case guaranteed:
		return Guaranteed
	}
	return Burstable
}

// withDefaults: a limit without a request is a request too.
func (r Resources) withDefaults() Resources {
	fill := func(request *int64, limit int64) {
		if *request == 0 {
			*request = limit
		}
	}
	fill(&r.Requests.CPU, r.Limits.CPU)
	fill(&r.Requests.Memory, r.Limits.Memory)
	fill(&r.Requests.EphemeralStorage, r.Limits.EphemeralStorage)
	return r
}

// Kubernetes' translation to cgroups.
const (
	quotaPeriod     = 100_000 // microseconds
	minQuota        = 1_000
	minShares       = 2
	maxShares       = 262_144
	oomGuaranteed   = -997
	oomBestEffort   = 1000
	sharesPerCPU    = 1024
	milliPerCPU     = 1000
	burstableOOMMin = 3
)

// cgroup translates the resources of a container. capacity is the machine's
// memory in bytes. Nil: nothing to limit.
func cgroup(p *Pod, r Resources, capacity int64) *runtime.Resources {
	r = r.withDefaults()
	class := QOS(p)
	if class == BestEffort {
		return &bestEffort
	}
	out := &runtime.Resources{
		CPUShares:   max(minShares, min(maxShares, r.Requests.CPU*sharesPerCPU/milliPerCPU)),
		MemoryLimit: r.Limits.Memory,
		OOMScoreAdj: oomScore(class, r.Requests.Memory, capacity),
	}
	if r.Limits.CPU > 0 {
		out.CPUPeriod = quotaPeriod
		out.CPUQuota = max(minQuota, r.Limits.CPU*quotaPeriod/milliPerCPU)
	}
	return out
}

// bestEffort is shared by all that have it: most simulated pods do. It is never changed.
var bestEffort = runtime.Resources{CPUShares: minShares, OOMScoreAdj: oomBestEffort}

func oomScore(class QOSClass, request, capacity int64) int64 {
	if class == Guaranteed {
		return oomGuaranteed
	}
	if capacity <= 0 {
		return oomBestEffort - 1
	}
	score := 1000 - 1000*request/capacity
	return max(burstableOOMMin, min(oomBestEffort-1, score))
}

// sum adds what the containers of a pod may use together, nil if nothing is limited.
func sum(p *Pod, capacity int64) *runtime.Resources {
	var total Resources
	cpu, memory := true, true
	for i := range p.Spec.Containers {
		r := p.Spec.Containers[i].Resources.withDefaults()
		total.Requests.CPU += r.Requests.CPU
		total.Requests.Memory += r.Requests.Memory
		total.Limits.CPU += r.Limits.CPU
		total.Limits.Memory += r.Limits.Memory
		cpu, memory = cpu && r.Limits.CPU > 0, memory && r.Limits.Memory > 0
	}
	// One container without a limit leaves the pod without.
	if !cpu {
		total.Limits.CPU = 0
	}
	if !memory {
		total.Limits.Memory = 0
	}
	if total == (Resources{}) {
		return nil
	}
	return cgroup(p, total, capacity)
}
