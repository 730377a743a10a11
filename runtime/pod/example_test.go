// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"fmt"

	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/pod"
)

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	m := pod.New(pod.Config{
		Runtime: fake.New(fake.Options{}),
		OnStatus: func(p *pod.Pod, s *pod.Status) {
			c := s.ContainerStatuses[0].State
			switch {
			case c.Running != nil:
				fmt.Println(p.Name, s.Phase, "running")
			case c.Terminated != nil:
				fmt.Println(p.Name, s.Phase, c.Terminated.Reason)
				cancel()
			}
		},
	})
	err := m.Set(&pod.Pod{Name: "hello", UID: "1", Spec: pod.Spec{
		RestartPolicy: pod.RestartNever,
		Containers:    []pod.Container{{Name: "main", Command: []string{"sleep", "0.1"}}},
	}})
	if err != nil {
		fmt.Println(err)
	}
	if err := m.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// hello Running running
	// hello Succeeded Completed
}
