// SPDX-License-Identifier: Apache-2.0

package schedule

// FilterFunc makes a plugin of a function about the caller's own objects, with their
// types: it refuses a node for a pod by returning [Reject], and lets it pass by
// returning nil. Each pod must carry a P and each node an N; one that doesn't causes
// a [*PluginError].
func FilterFunc[P, N any](name string, f func(pod P, node N) *Status) Plugin {
	return objectFilter{name, func(c *Cycle, n NodeInfo) *Status { return f(Object[P](c.Pod), Object[N](n.Node())) }}
}

type objectFilter struct {
	name string
	f    func(*Cycle, NodeInfo) *Status
}

func (o objectFilter) Name() string { return o.name }

func (o objectFilter) Filter(c *Cycle, n NodeInfo) *Status { return o.f(c, n) }

// ScoreFunc makes a plugin of a function that rates a node for a pod, from MinScore
// to MaxScore, by the caller's own objects. See [FilterFunc].
func ScoreFunc[P, N any](name string, f func(pod P, node N) int64) Plugin {
	return objectScore{name, func(c *Cycle, n NodeInfo) int64 { return f(Object[P](c.Pod), Object[N](n.Node())) }}
}

type objectScore struct {
	name string
	f    func(*Cycle, NodeInfo) int64
}

func (o objectScore) Name() string { return o.name }

func (o objectScore) Score(c *Cycle, n NodeInfo) (int64, *Status) { return o.f(c, n), nil }
