// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
)

func Example() {
	ctx := context.Background()
	rt := fake.New(fake.Options{
		Script: func(_ *runtime.PodSandboxConfig, c *runtime.ContainerConfig) fake.Behaviour {
			return fake.Behaviour{ExitAfter: time.Hour, ExitCode: 1}
		},
	})
	s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "web", UID: "1"}}
	id, _ := rt.RunPodSandbox(ctx, s)
	c, _ := rt.CreateContainer(ctx, id, &runtime.ContainerConfig{Metadata: runtime.ContainerMetadata{Name: "web"}}, s)
	fmt.Println(rt.StartContainer(ctx, c))
	rt.OOM(c) // what the kernel does to a container that goes over its limit
	st, _ := rt.ContainerStatus(ctx, c)
	fmt.Println(st.State, st.Reason, st.ExitCode)
	// Output:
	// <nil>
	// Exited OOMKilled 137
}
