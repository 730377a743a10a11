// SPDX-License-Identifier: Apache-2.0

// Package schedule decides which node a pod goes to: Kubernetes' scheduling
// framework, with its extension points and its default plugins, for anything
// that is to be placed on anything.
//
// A scheduler with a plugin of one's own, which keeps jobs on machines of the
// right model:
//
//	type Job struct{ Model string }
//	type Machine struct{ Model string }
//
//	var sameModel = schedule.FilterFunc("SameModel", func(j Job, m Machine) *schedule.Status {
//		if j.Model == m.Model {
//			return nil
//		}
//		return schedule.Reject("node(s) were of another model")
//	})
//
//	func main() {
//		ctx, cancel := context.WithCancel(context.Background())
//		s, err := schedule.New(schedule.Options{
//			Profiles: []schedule.Profile{{Plugins: schedule.With(schedule.DefaultPlugins(), sameModel)}},
//			Binder: schedule.BinderFunc(func(_ context.Context, pod *schedule.Pod, node *schedule.Node) error {
//				fmt.Println(pod, "goes to", node.Name)
//				cancel() // one is enough
//				return nil
//			}),
//		})
//		if err != nil {
//			log.Fatal(err)
//		}
//		s.AddNode(&schedule.Node{Name: "big", Allocatable: schedule.Resources{CPU: 15000}, Object: Machine{"old"}})
//		s.AddNode(&schedule.Node{Name: "small", Allocatable: schedule.Resources{CPU: 10000}, Object: Machine{"new"}})
//		s.AddPod(&schedule.Pod{Name: "job", Requests: schedule.Resources{CPU: 5000}, Object: Job{"new"}})
//		s.Run(ctx) // prints "job goes to small"
//	}
//
// # Concepts
//
// A [Pod] is what is placed and a [Node] where: plain facts that the caller fills
// in, with the caller's own object. Amounts are whole numbers, CPU in millicores and
// the rest in bytes or pieces; see [Resources].
//
// The caller's objects come back with their types: [FilterFunc] and [ScoreFunc] make
// plugins of functions about them, and any other plugin, binder or event function reads
// them by [Object], as in Object[Job](pod). Pod and Node have no type parameters
// themselves, because everything else would then need both: the cluster, each of the
// default plugins, and every plugin that is of use to more than one caller. An object of
// another type than expected is reported like a panic of the plugin that expected it.
//
// A [Cluster] is the state, nodes and the pods on them, and decides about one pod
// at a time: [Cluster.Schedule] says where a pod would go, [Cluster.Place] puts it
// there. It has no goroutines and no clock. A [Scheduler] keeps a Cluster, a queue
// of pods that wait, and binds what was decided:
//
//	           ┌──────────────── Scheduler ────────────────┐
//	nodes ────▶│ Cluster ◀── assume ──┐                    │
//	pods  ────▶│ queue ──────────▶ cycle ──▶ bind workers ─┼──▶ Binder
//	           │   ▲                  │ refused            │
//	           │   └── events ◀───────┘                    │
//	           └───────────────────────────────────────────┘
//
// What a cycle does is up to [Plugin]s, which a [Profile] lists. A plugin is a
// type with a name and the methods of any extension points; those of
// [DefaultPlugins] use nothing that others can't, but for internal shortcuts that
// change no result. [With] and [Without] change a list. A pod that names no
// profile gets "default-scheduler".
//
// A pod that no node takes waits until something happens that may help, as the
// plugins that refused it say by their queueing hints, or for [Options].RetryAfter
// at most. The refusal is a [*FitError]; it reads
//
//	0/3 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 Insufficient cpu.
//
// If it has a higher priority than others, and [Options].Evict is set, room is made
// for it; see [DefaultPreemption].
//
// Pods of a [Group] are placed together or not at all: members wait until there are
// enough of them, are decided on in one go, and go on to be bound only when all are
// reserved, permitted and prepared. If that fails for one, all are taken back and tried
// again together. A [GroupBinder] then binds them at once, or none of them. Another
// [Binder] binds one after the other: if the first fails, all are taken back; after that
// there is no way back, and a member whose binding fails keeps its room until a later
// try succeeds.
//
// # What if
//
// [Cluster.Fork] and [Scheduler.Fork] give a copy of the state in microseconds. Ask
// it anything: [Cluster.PlaceCopies], [Cluster.Drain], [Cluster.Preempt],
// [Cluster.AddNode] and a pod that waits; nothing of it happens to the original.
// [Cluster.Explain] says of every node which plugin refused a pod, or how its score
// came about.
//
// # Order and concurrency
//
// All methods of a Scheduler may be called from any goroutine. Cycles run one after
// the other, each on the state left by the one before: a pod is assumed to be on its
// node from the decision on, though it is bound later. Pods with a higher priority
// go first, then those that came first. Confirm a binding by [Scheduler.AddPod] or
// [Scheduler.UpdatePod] with the NodeName, as an informer does; until then the pod
// is assumed, for [Options].AssumeTimeout at most.
//
// All nodes are considered for every pod; there is no sampling. Among the best, one
// is chosen at random; with [Options].Seed set, the same calls in the same order
// lead to the same placements.
//
// # Speed
//
// What the default plugins say about a node is remembered and asked again only when the
// node changes: a pod like earlier ones costs the same whatever the number of nodes, or
// nearly. "Like" means the same requests, tolerations, node affinity, ports and images;
// labels make no difference to a node. For a pod of a new kind all nodes are looked at,
// at a few nanoseconds each.
//
// Plugins of one's own cost one call per node that is left. There are two ways to
// pay less. [FilterRowsPlugin] and [ScoreRowsPlugin] do all nodes in one call. And a
// plugin whose answers depend on nothing but the pod and the node with its pods says
// so ([NodeLocalPlugin]): it is then asked again only about nodes that changed.
//
// # Errors
//
// A plugin that fails, panics, gives a score out of range or takes too long causes a
// [*PluginError] that names it, the pod and the node, by way of [Events].Failed; the pod
// is tried again after a backoff, and meanwhile others are. Invalid pods and nodes are
// refused with an error that wraps [ErrInvalid].
//
// Every plugin gets a context that ends after [Options].PluginTimeout or BindTimeout.
// Go can't stop one that does not heed it: the scheduler goes on without it, lists it in
// [Scheduler.Stuck] until it returns, and takes back then what it may have reserved. A
// pod whose binding is stuck keeps its place, since it may yet be bound. Run waits for
// such plugins, for a last BindTimeout, and its error names those it leaves behind.
//
// # Where it differs from Kubernetes
//
// A node that states no number of pods takes any number. Taint refusals name the
// taint. There are no default spread constraints: give pods their own. The whole pod
// counts as one container where defaults for missing requests are concerned.
package schedule
