// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
)

// Volumes is what [VolumeBinding] needs to know and do about volume claims. The
// caller implements it over its storage.
type Volumes interface {
	// Claim returns a claim of a pod, or an error that wraps ErrNotFound. It is
	// called in the cycle: no pod is placed meanwhile.
	Claim(ctx context.Context, namespace, name string) (Claim, error)
	// Reserve sets volumes aside for the unbound claims of a pod that will go to
	// the node, and Release gives them back. Release must accept a pod for which
	// nothing was reserved.
	Reserve(ctx context.Context, pod *Pod, node *Node) error
	Release(ctx context.Context, pod *Pod, node *Node)
	// Bind provides the volumes and returns once they are there.
	Bind(ctx context.Context, pod *Pod, node *Node) error
}

// Claim is what matters about a volume claim to a scheduler.
type Claim struct {
	Bound bool // it has its volume

	// WaitForFirstConsumer says that an unbound claim gets its volume once a
	// node is chosen for the pod (volumeBindingMode of the storage class). An
	// unbound claim without it keeps the pod waiting.
	WaitForFirstConsumer bool

	// Topology says which nodes can reach the volume, or where one could be
	// had: those that match one of the terms. Empty means all.
	Topology []NodeSelectorTerm
}

// VolumeBinding keeps pods to the nodes that can reach their volumes, and has
// volumes provided for claims that wait for a pod
// (https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode).
// It is not one of the [DefaultPlugins], because it needs Volumes; add it by
// [With].
type VolumeBinding struct {
	Volumes Volumes
}

// Name returns "VolumeBinding".
func (VolumeBinding) Name() string { return "VolumeBinding" }

func (v VolumeBinding) validate() error {
	if v.Volumes == nil {
		return errors.New("Volumes is nil")
	}
	return nil
}

var (
	statusUnbound  = NewStatus(UnschedulableAndUnresolvable, "pod has unbound immediate PersistentVolumeClaims")
	statusVolume   = NewStatus(UnschedulableAndUnresolvable, "node(s) had volume node affinity conflict")
	statusNoVolume = NewStatus(UnschedulableAndUnresolvable, "node(s) didn't find available persistent volumes to bind")
)

// volumeKey is the key of what PreFilter leaves for Filter: []volumeTest.
type volumeKey struct{}

type volumeTest struct {
	bound bool
	terms [][]labelTest
}

// PreFilter looks the claims up.
func (v VolumeBinding) PreFilter(c *Cycle) *Status {
	if len(c.Pod.Claims) == 0 {
		return statusSkip
	}
	var tests []volumeTest
	for _, name := range c.Pod.Claims {
		c.outside()
		claim, err := v.Volumes.Claim(c.Context(), c.Pod.Namespace, name)
		c.inside()
		switch {
		case errors.Is(err, ErrNotFound):
			return NewStatus(UnschedulableAndUnresolvable, fmt.Sprintf("persistentvolumeclaim %q not found", name))
		case err != nil:
			return Fail(fmt.Errorf("claim %s: %w", name, err))
		case !claim.Bound && !claim.WaitForFirstConsumer:
			return statusUnbound
		}
		if len(claim.Topology) == 0 {
			continue
		}
		test := volumeTest{bound: claim.Bound}
		for i, term := range claim.Topology {
			parsed, err := parseNodeTerm(term)
			if err != nil {
				return Fail(fmt.Errorf("claim %s, topology term %d: %w", name, i, err))
			}
			test.terms = append(test.terms, c.table.termTests(&parsed))
		}
		tests = append(tests, test)
	}
	c.state.Set(volumeKey{}, tests)
	return nil
}

// Filter refuses nodes that can't reach a volume.
func (VolumeBinding) Filter(c *Cycle, n NodeInfo) *Status {
	tests, _ := c.state.Get(volumeKey{}).([]volumeTest)
	for i := range tests {
		if tests[i].match(n.row) {
			continue
		}
		if tests[i].bound {
			return statusVolume
		}
		return statusNoVolume
	}
	return nil
}

func (v *volumeTest) match(row int32) bool {
	for _, term := range v.terms {
		if matchTerm(term, row) {
			return true
		}
	}
	return false
}

// Reserve sets volumes aside.
func (v VolumeBinding) Reserve(ctx context.Context, _ *State, pod *Pod, node *Node) *Status {
	if len(pod.Claims) == 0 {
		return nil
	}
	if err := v.Volumes.Reserve(ctx, pod, node); err != nil {
		return Fail(err)
	}
	return nil
}

// Unreserve gives them back.
func (v VolumeBinding) Unreserve(ctx context.Context, _ *State, pod *Pod, node *Node) {
	if len(pod.Claims) > 0 {
		v.Volumes.Release(ctx, pod, node)
	}
}

// PreBind has the volumes provided.
func (v VolumeBinding) PreBind(ctx context.Context, _ *State, pod *Pod, node *Node) *Status {
	if len(pod.Claims) == 0 {
		return nil
	}
	if err := v.Volumes.Bind(ctx, pod, node); err != nil {
		return Fail(err)
	}
	return nil
}
