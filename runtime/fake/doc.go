// SPDX-License-Identifier: Apache-2.0

// Package fake is a container runtime in memory: for tests, also in virtual
// time (testing/synctest), and for simulated nodes with very many pods.
//
//	rt := fake.New(fake.Options{
//		Script: func(s *runtime.PodSandboxConfig, c *runtime.ContainerConfig) fake.Behaviour {
//			return fake.Behaviour{ExitAfter: time.Minute, ExitCode: 1} // crashes every minute
//		},
//	})
//
// It keeps all the rules of [runtime.RuntimeService] (package runtimetest says so), so that code
// which misuses a runtime fails here too. What a container does is data, a [Behaviour]: it costs no
// goroutine, and a timer only while an exit lies ahead.
//
// # Programs
//
// Without a script, a container does what its command says, for a handful of commands:
// true, false, echo, cat, sleep, and sh -c with a list of these, "exit n" and
// "trap ” TERM". Everything else runs until it is stopped, as a server would. Exec
// runs the same commands. This is enough for the same test to run on a fake and on a real runtime.
//
// # Faults
//
// [Options.Before] is called before each operation and may wait (latency) or return an error, which
// becomes the answer. [Runtime.Kill], [Runtime.OOM] and [Runtime.Restart] do to
// running containers what happens to real ones.
package fake
