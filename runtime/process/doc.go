// SPDX-License-Identifier: Apache-2.0

// Package process is a container runtime whose containers are ordinary
// processes of the machine: no root, no images, no daemon to install. Linux only.
//
//	func main() {
//		process.Main() // first: New runs this program again as its supervisor
//		rt, err := process.New(process.Options{Root: "/var/lib/mynode"})
//		...
//		defer rt.Close()
//		m := pod.New(pod.Config{Runtime: rt, Root: "/var/lib/mynode/pods"})
//		err = m.Run(ctx)
//	}
//
// # One supervisor per node
//
// Somebody has to hold the pipes of processes that outlive the agent, to write
// their logs and to wait for them. That is one small process for the whole node, the supervisor, which [New] starts
// when there is none. The agent may be killed at any instant: nothing that runs is
// touched, and the next [New] on the same Root finds everything, exit codes included.
//
//	agent ──Unix socket──▶ supervisor ──┬─▶ process group of container a
//	(any number, or none)  (one per     ├─▶ process group of container b
//	                        Root)       └─▶ ...
//
// If the supervisor itself is killed, its containers have lost their output and
// their parent. The next supervisor, which the agent starts with its next call, kills what is left of them and reports
// them as exited with 137.
// A supervisor without sandboxes and without agents ends by itself. It is a child of init, not of the agent. Its
// journal survives it, and not a power failure, which no process survives either. On a full disk nothing new is
// made, and everything can be stopped and removed.
//
// # What a container is
//
// A session and process group of its own; an environment with nothing but what was
// configured and PATH, HOME, HOSTNAME, SLIPWAY_POD_IP and SLIPWAY_CONTAINER; a working directory, by default one of
// the sandbox's own that goes when the sandbox is stopped; a log in CRI's
// format. When its first process ends the rest of its group is killed, and daemons that left
// the group are found by SLIPWAY_CONTAINER. A process that leaves its session and
// also changes its environment escapes, unless it has a cgroup.
//
// # Addresses
//
// Each pod has an address of its own in 127.0.0.0/8. A server that binds to all addresses or to localhost
// is bound to its pod's address; what connects to localhost reaches its own pod. So
// two replicas listen on one port side by side, without root. All pods reach each
// other and the machine's network as any process does. The limits:
//
//   - The addresses are known on this machine only.
//   - A server that asks for IPv6 only (IPV6_V6ONLY) is left alone, and two of those collide.
//   - A datagram sent to localhost without connect goes to the machine's localhost.
//   - It needs Linux 5.6 with seccomp, on amd64 or arm64, and sets no_new_privs:
//     set-user-ID programs such as sudo gain nothing. Options.NoAddresses goes without.
//
// # With and without root
//
//   - A mount of a path at itself always works and costs nothing. Mounts at other paths, read-only
//     ones, image volumes and an image as root directory are made in a mount namespace: as root, or without root in a user namespace where
//     the machine permits unprivileged ones (most do; some distributions restrict them by sysctl or AppArmor). Where
//     it does not, StartContainer returns runtime.ErrUnsupported.
//   - In a user namespace the user and group stay what they were and all others are nobody; it has
//     no capabilities. Propagation Bidirectional, other users (RunAsUser) and emptyDirs in memory need root.
//   - A mount in a directory of the machine that lacks its place covers that directory, for this container only, with a
//     copy made of bind mounts, to which what is added on the machine later does not come. Nothing can be added to "/" itself.
//   - Limits of CPU, memory and processes need a writable cgroup hierarchy, version 1 or 2. Where there is
//     none a container runs without limits, and UpdateContainerResources returns
//     runtime.ErrUnsupported. Version 2 is tested on files only, not on a kernel: what is written where is proved,
//     what the kernel makes of it is not.
//   - Host ports are refused. Hostname (but for the variable HOSTNAME), DNS, devices, capabilities, security
//     profiles and PID and IPC namespaces of a configuration have no effect.
//   - There is no isolation of users, processes or files: use it for programs that you trust.
package process
