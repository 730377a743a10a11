// SPDX-License-Identifier: Apache-2.0

package runtime

import "time"

// ContainerStats is what a container uses.
type ContainerStats struct {
	ID        string
	SandboxID string
	Metadata  ContainerMetadata
	Usage
	WritableLayer FilesystemUsage
}

// PodSandboxStats is what a sandbox uses, with its containers.
type PodSandboxStats struct {
	ID       string
	Metadata PodSandboxMetadata
	Usage
	Containers []ContainerStats
	// Network is zero where the pod has no network interface of its own.
	Network NetworkUsage
}

// Usage is CPU, memory and processes at one moment.
type Usage struct {
	Timestamp time.Time
	CPU       time.Duration // since the start, over all cores
	// MemoryWorkingSet is what can't be dropped under pressure, which the OOM killer
	// and eviction look at; MemoryRSS is anonymous memory. Bytes.
	MemoryWorkingSet, MemoryRSS uint64
	Processes                   uint64
}

// NetworkUsage counts the traffic of a sandbox since its start.
type NetworkUsage struct {
	RxBytes, TxBytes   uint64
	RxErrors, TxErrors uint64
}
