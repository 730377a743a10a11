// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"iter"
	"maps"
	"time"
)

// MaxScore and MinScore bound what a plugin may give a node, after
// normalisation.
const (
	MinScore int64 = 0
	MaxScore int64 = 100
)

// Plugin is anything with a name that implements at least one of the extension
// points below. The points and their order are those of Kubernetes' scheduling
// framework (https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/):
//
//	queue     PreEnqueue · QueueSort
//	cycle     PreFilter → Filter → (PostFilter) → PreScore → Score → NormalizeScore → Reserve → Permit
//	binding   (wait for Permit) → PreBind → Bind → PostBind
//
// The cycle of one pod runs at a time. What runs in it decides from the state
// that it is given; what must wait for anything heeds the context, [Cycle.Context] or
// the one it is given, and gives up when that is done. One that does not is left
// behind after [Options].PluginTimeout, and reported; [Scheduler.Stuck] lists them.
// What runs in the binding, beginning with PreBind, may take its time: many pods are
// bound at once. Less, Worth of a queueing hint and LocalKey are asked so often that
// nobody watches them: they compare, and do not wait.
//
// No method may call those of the [Scheduler] before PreBind: they wait for the cycle
// to end.
type Plugin interface {
	Name() string
}

// PreEnqueuePlugin keeps pods out of the queue that need not be tried yet. A
// pod that it refuses is asked about again when the pod is updated, and on the
// events that the plugin names ([QueueingHintPlugin]).
type PreEnqueuePlugin interface {
	Plugin
	PreEnqueue(ctx context.Context, pod *Pod) *Status
}

// QueueSortPlugin orders the queue. A profile has exactly one, and all profiles
// of a scheduler the same.
type QueueSortPlugin interface {
	Plugin
	Less(a, b *QueuedPod) bool
}

// PreFilterPlugin looks at the pod before any node. It may refuse the pod, leave
// its plugin's Filter out of this cycle by returning [Skip], or leave only some
// nodes to consider by calling [Cycle.Narrow].
type PreFilterPlugin interface {
	Plugin
	PreFilter(c *Cycle) *Status
}

// PreFilterExtensions keeps what PreFilter computed up to date while the
// scheduler tries what the state would be with a pod more or less on a node.
// A plugin whose Filter reads only the node and the cluster doesn't need it.
type PreFilterExtensions interface {
	AddPod(c *Cycle, pod *Pod, node NodeInfo) *Status
	RemovePod(c *Cycle, pod *Pod, node NodeInfo) *Status
}

// FilterPlugin rules nodes out. It is asked about each node that the filters
// before it let through.
type FilterPlugin interface {
	Plugin
	Filter(c *Cycle, node NodeInfo) *Status
}

// FilterRowsPlugin is the vectorised form of Filter: it removes from rows all
// the nodes that don't pass, in one call. Filter must give the same answers: it
// is still asked for reasons.
type FilterRowsPlugin interface {
	FilterPlugin
	FilterRows(c *Cycle, rows *Rows)
}

// PostFilterPlugin is called when no node is left. One that can make room, as
// [DefaultPreemption] does, returns success and the node where it does so.
type PostFilterPlugin interface {
	Plugin
	PostFilter(c *Cycle, d *Diagnosis) (*PostFilterResult, *Status)
}

// PostFilterResult is what a PostFilter plugin has arranged.
type PostFilterResult struct {
	NominatedNode string
	Victims       []*Pod // to be evicted before the pod fits
}

// PreScorePlugin prepares Score once the feasible nodes are known; [Skip] leaves
// its plugin's Score out of this cycle.
type PreScorePlugin interface {
	Plugin
	PreScore(c *Cycle) *Status
}

// ScorePlugin rates the feasible nodes, from MinScore to MaxScore unless it also
// normalises.
type ScorePlugin interface {
	Plugin
	Score(c *Cycle, node NodeInfo) (int64, *Status)
}

// ScoreRowsPlugin is the vectorised form of Score: it sets scores[row] for each
// of the rows. Score must give the same answers.
type ScoreRowsPlugin interface {
	ScorePlugin
	ScoreRows(c *Cycle, rows *Rows, scores []int64)
}

// NormalizeScorePlugin brings its plugin's scores of all feasible nodes into the
// range from MinScore to MaxScore, in place.
type NormalizeScorePlugin interface {
	ScorePlugin
	NormalizeScore(c *Cycle, rows *Rows, scores []int64) *Status
}

// RangeNormalizePlugin is for a normalisation that depends only on the score and
// on the least and greatest score of all feasible nodes. It is faster than
// NormalizeScore, because equal scores are normalised once.
type RangeNormalizePlugin interface {
	ScorePlugin
	NormalizeRange(score, least, greatest int64) int64
}

// NodeLocalPlugin promises that the plugin's Filter and Score depend on nothing
// but the pod's facts, the node and the pods on it. The scheduler then asks again
// only about nodes that changed. If the caller's own object of the pod matters
// too, LocalKey returns what of it does: pods with equal facts and equal keys are
// taken to be alike.
type NodeLocalPlugin interface {
	Plugin
	LocalKey(pod *Pod) string
}

// ReservePlugin notes that a pod will be on a node before it is bound, so that
// the next cycle knows. Unreserve takes it back when anything later fails; it
// must work, and also be harmless, for a pod that was not reserved. If Reserve is left
// behind because it takes too long, Unreserve is called once it returns.
type ReservePlugin interface {
	Plugin
	Reserve(ctx context.Context, s *State, pod *Pod, node *Node) *Status
	Unreserve(ctx context.Context, s *State, pod *Pod, node *Node)
}

// PermitPlugin has the last word in the cycle: success, a refusal, or [Wait],
// which holds the pod in [Scheduler.Waiting] for as long as the duration says.
type PermitPlugin interface {
	Plugin
	Permit(ctx context.Context, s *State, pod *Pod, node *Node) (*Status, time.Duration)
}

// PreBindPlugin does what must be done before the pod is bound, such as
// providing a volume.
type PreBindPlugin interface {
	Plugin
	PreBind(ctx context.Context, s *State, pod *Pod, node *Node) *Status
}

// BindPlugin binds the pod; the first one that doesn't return [Skip] has done it.
type BindPlugin interface {
	Plugin
	Bind(ctx context.Context, s *State, pod *Pod, node *Node) *Status
}

// PostBindPlugin is told that the pod was bound.
type PostBindPlugin interface {
	Plugin
	PostBind(ctx context.Context, s *State, pod *Pod, node *Node)
}

// State is what the plugins of one pod remember from one extension point to the
// next. The zero value is ready. The points of one pod never run at the same
// time, so it has no lock.
type State struct {
	m map[any]any
}

// Set remembers a value. Let the key be of a type of your own.
func (s *State) Set(key, value any) {
	if s.m == nil {
		s.m = map[any]any{}
	}
	s.m[key] = value
}

// Get returns what was set, or nil.
func (s *State) Get(key any) any { return s.m[key] }

func (s *State) clone() State { return State{maps.Clone(s.m)} }

// NodeInfo is a node and what is on it, as of now. It is valid during the call
// that it was given to.
type NodeInfo struct {
	t   *table
	row int32
}

// Node returns the node.
func (n NodeInfo) Node() *Node { return n.t.node(n.row) }

// Row returns the node's row, for a plugin that keeps columns of its own.
func (n NodeInfo) Row() int { return int(n.row) }

// Allocatable returns how much of a resource pods may take.
func (n NodeInfo) Allocatable(resource string) int64 {
	alloc, _, i := n.column(resource)
	return alloc[i]
}

// Requested returns how much of a resource the pods there have requested.
func (n NodeInfo) Requested(resource string) int64 {
	_, used, i := n.column(resource)
	return used[i]
}

func (n NodeInfo) column(resource string) (alloc, used *[blockRows]int64, i int) {
	b, i := n.t.at(n.row)
	alloc, used = b.column(n.t.resources.find(resource))
	return alloc, used, i
}

// Pods yields the pods on the node, bound or about to be.
func (n NodeInfo) Pods() iter.Seq[*Pod] {
	return func(yield func(*Pod) bool) {
		b, i := n.t.at(n.row)
		for _, p := range b.pods[i] {
			if !yield(p.pod) {
				return
			}
		}
	}
}
