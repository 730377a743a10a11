// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Resources are amounts: what a pod requests or what a node offers.
type Resources struct {
	CPU              int64            // millicores
	Memory           int64            // bytes
	EphemeralStorage int64            // bytes
	Pods             int64            // number of pods; of nodes only
	Extended         map[string]int64 // anything else, by a name such as example.com/gpu, in its own unit
}

func (r Resources) equal(o Resources) bool {
	return r.CPU == o.CPU && r.Memory == o.Memory && r.EphemeralStorage == o.EphemeralStorage &&
		r.Pods == o.Pods && maps.Equal(r.Extended, o.Extended)
}

// MaxQuantity is the largest amount of one resource (72 petabytes, if bytes):
// larger ones could overflow when scores are computed.
const MaxQuantity int64 = 1 << 56

// Names of resources, as errors and scoring strategies write them.
const (
	CPU              = "cpu"
	Memory           = "memory"
	EphemeralStorage = "ephemeral-storage"
	Pods             = "pods"
)

// What a pod counts for in scores if it requests nothing, so that pods without
// requests are still spread.
const (
	defaultCPU    = 100               // millicores
	defaultMemory = 200 * 1024 * 1024 // bytes
)

// validate names the first amount that can't be.
func (r Resources) validate() error {
	for _, a := range [...]struct {
		name  string
		value int64
	}{{CPU, r.CPU}, {Memory, r.Memory}, {EphemeralStorage, r.EphemeralStorage}, {Pods, r.Pods}} {
		if err := validateAmount(a.name, a.value); err != nil {
			return err
		}
	}
	for _, name := range r.extended() {
		switch name {
		case CPU, Memory, EphemeralStorage, Pods:
			return fmt.Errorf("resource %q has a field of its own in Resources and can't be in Extended", name)
		}
		if domain, rest, ok := strings.Cut(name, "/"); (!ok || domain == "" || rest == "") && !strings.HasPrefix(name, "hugepages-") {
			return fmt.Errorf("unknown resource %q: extended resources are named domain/name, such as example.com/gpu", name)
		}
		if err := validateAmount(name, r.Extended[name]); err != nil {
			return err
		}
	}
	return nil
}

// extended returns the names of the extended resources in order.
func (r Resources) extended() []string {
	if len(r.Extended) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(r.Extended))
}

func validateAmount(name string, value int64) error {
	if value < 0 {
		return fmt.Errorf("%s: %d is negative", name, value)
	}
	if value > MaxQuantity {
		return fmt.Errorf("%s: %d is above the limit of %d", name, value, MaxQuantity)
	}
	return nil
}
