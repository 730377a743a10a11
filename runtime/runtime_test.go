// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
)

func TestResourcesOver(t *testing.T) {
	old := &runtime.Resources{CPUShares: 512, MemoryLimit: 100, Unified: map[string]string{"a": "1", "b": "1"}}
	for _, tt := range []struct {
		name     string
		new, old *runtime.Resources
		want     runtime.Resources
	}{
		{"nothing", nil, nil, runtime.Resources{}},
		{"no change", nil, old, *old},
		{"no old", old, nil, *old},
		{"merged", &runtime.Resources{MemoryLimit: 200, Unified: map[string]string{"b": "2"}}, old,
			runtime.Resources{CPUShares: 512, MemoryLimit: 200, Unified: map[string]string{"a": "1", "b": "2"}}},
	} {
		if d := cmp.Diff(tt.want, tt.new.Over(tt.old)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
	if old.Unified["b"] != "1" {
		t.Error("the old resources were changed")
	}
}

func TestStatusReady(t *testing.T) {
	s := runtime.Status{Conditions: []runtime.Condition{{Type: runtime.RuntimeReady, Status: true}, {Type: runtime.NetworkReady, Message: "no plugin"}}}
	if ok, why := s.Ready(); ok || why != "NetworkReady: no plugin" {
		t.Errorf("Ready() = %v, %q", ok, why)
	}
	s.Conditions[1].Status = true
	if ok, _ := s.Ready(); !ok {
		t.Error("not ready although all conditions hold")
	}
}

// One pod from nothing to nothing; any runtime.RuntimeService does the same.
func Example() {
	ctx := context.Background()
	var rt runtime.RuntimeService = fake.New(fake.Options{})
	sandbox := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "web", Namespace: "default", UID: "1"}}
	pod, err := rt.RunPodSandbox(ctx, sandbox)
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := rt.CreateContainer(ctx, pod, &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: "web"}, Command: []string{"nginx"},
	}, sandbox)
	if err == nil {
		err = rt.StartContainer(ctx, id)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	st, err := rt.ContainerStatus(ctx, id)
	fmt.Println(st.State, err)
	fmt.Println(rt.RemovePodSandbox(ctx, pod))
	// Output:
	// Running <nil>
	// <nil>
}
