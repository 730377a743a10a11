// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"context"
	"fmt"
	"os"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/process"
)

// The program that holds this example calls process.Main first in its TestMain,
// as every program does in main.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	rt, err := process.New(process.Options{Root: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close()
	sandbox := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "web", UID: "1"}}
	id, err := rt.RunPodSandbox(ctx, sandbox)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.RemovePodSandbox(ctx, id)
	c, err := rt.CreateContainer(ctx, id, &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: "web"},
		Command:  []string{"sleep", "60"},
	}, sandbox)
	if err == nil {
		err = rt.StartContainer(ctx, c)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := rt.ExecSync(ctx, c, []string{"echo", "hello from the container"}, 0)
	fmt.Print(string(out.Stdout), err, "\n")
	// Output:
	// hello from the container
	// <nil>
}
