// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"reflect"
	"slices"
)

// Profile is a set of plugins for the pods that name it.
type Profile struct {
	Name    string           // matched with [Pod.SchedulerName]; empty means "default-scheduler"
	Plugins []Plugin         // in order; nil means [DefaultPlugins]
	Weights map[string]int64 // of scores, by plugin name; absent means [DefaultWeight], 0 leaves the score out
}

const defaultProfile = "default-scheduler"

// DefaultPlugins returns Kubernetes' default plugins, each with its default
// settings, in their order. Binding and evicting, which need the caller, are
// given in [Options].
func DefaultPlugins() []Plugin {
	return []Plugin{
		SchedulingGates{}, PrioritySort{},
		NodeUnschedulable{}, NodeReady{}, NodeName{}, TaintToleration{}, NodeAffinity{}, NodePorts{},
		NodeResourcesFit{}, PodTopologySpread{}, InterPodAffinity{},
		DefaultPreemption{},
		NodeResourcesBalancedAllocation{}, ImageLocality{},
	}
}

// With returns the plugins with some added; one with the name of another takes
// its place.
func With(plugins []Plugin, more ...Plugin) []Plugin {
	plugins = slices.Clone(plugins)
	for _, p := range more {
		if i := slices.IndexFunc(plugins, func(q Plugin) bool { return q.Name() == p.Name() }); i >= 0 {
			plugins[i] = p
		} else {
			plugins = append(plugins, p)
		}
	}
	return plugins
}

// Without returns the plugins but those with the given names.
func Without(plugins []Plugin, names ...string) []Plugin {
	return slices.DeleteFunc(slices.Clone(plugins), func(p Plugin) bool { return slices.Contains(names, p.Name()) })
}

// DefaultWeight returns the weight that Kubernetes gives to a plugin's score; 1
// for plugins that it doesn't know.
func DefaultWeight(plugin string) int64 {
	switch plugin {
	case "TaintToleration":
		return 3
	case "NodeAffinity", "PodTopologySpread", "InterPodAffinity":
		return 2
	}
	return 1
}

// profile is a Profile sorted by extension point.
type profile struct {
	name  string
	index int

	preEnqueue []PreEnqueuePlugin
	queueSort  QueueSortPlugin
	hints      []QueueingHintPlugin
	preFilters []preFilterSlot
	filters    []filterSlot
	postFilter []PostFilterPlugin
	scores     []scoreSlot
	reserve    []ReservePlugin
	permit     []PermitPlugin
	preBind    []PreBindPlugin
	bind       []BindPlugin
	postBind   []PostBindPlugin
	local      []NodeLocalPlugin // with keys to ask for
	foreign    bool              // has plugins from elsewhere that run in the cycle
	extensions []preFilterExtension
	fused      kernel
}

type preFilterSlot struct {
	PreFilterPlugin
	filter int // index of its filter, or -1
}

type filterSlot struct {
	FilterPlugin
	name  string
	rows  FilterRowsPlugin // nil: call Filter for each node
	local bool
}

type scoreSlot struct {
	ScorePlugin
	name      string
	weight    int64
	preScore  PreScorePlugin
	rows      ScoreRowsPlugin // nil: call Score for each node
	rater     rater           // nil: it does not go by shares
	normalize NormalizeScorePlugin
	scale     RangeNormalizePlugin
	local     bool
	column    int // of the cached raw scores, for a local score to be normalised
}

// plain reports whether the score goes into the cached sum as it is.
func (s *scoreSlot) plain() bool { return s.local && s.normalize == nil && s.scale == nil }

type preFilterExtension struct {
	name string
	PreFilterExtensions
}

// points are the methods that make a type an extension point, for the check
// that none is misspelt.
var points = map[string]reflect.Type{
	"PreEnqueue":     reflect.TypeFor[PreEnqueuePlugin](),
	"Less":           reflect.TypeFor[QueueSortPlugin](),
	"PreFilter":      reflect.TypeFor[PreFilterPlugin](),
	"Filter":         reflect.TypeFor[FilterPlugin](),
	"FilterRows":     reflect.TypeFor[FilterRowsPlugin](),
	"PostFilter":     reflect.TypeFor[PostFilterPlugin](),
	"PreScore":       reflect.TypeFor[PreScorePlugin](),
	"Score":          reflect.TypeFor[ScorePlugin](),
	"ScoreRows":      reflect.TypeFor[ScoreRowsPlugin](),
	"NormalizeScore": reflect.TypeFor[NormalizeScorePlugin](),
	"NormalizeRange": reflect.TypeFor[RangeNormalizePlugin](),
	"LocalKey":       reflect.TypeFor[NodeLocalPlugin](),
	"Reserve":        reflect.TypeFor[ReservePlugin](),
	"Unreserve":      reflect.TypeFor[ReservePlugin](),
	"Permit":         reflect.TypeFor[PermitPlugin](),
	"PreBind":        reflect.TypeFor[PreBindPlugin](),
	"Bind":           reflect.TypeFor[BindPlugin](),
	"PostBind":       reflect.TypeFor[PostBindPlugin](),
	"QueueingHints":  reflect.TypeFor[QueueingHintPlugin](),
}

// checkPlugin finds the mistake that Go's structural interfaces hide: a method
// with the name of an extension point but other parameters.
func checkPlugin(p Plugin) error {
	if p == nil {
		return fmt.Errorf("%w: a plugin is nil", ErrInvalid)
	}
	if p.Name() == "" {
		return fmt.Errorf("%w: plugin %T has an empty name", ErrInvalid, p)
	}
	t := reflect.TypeOf(p)
	implements := false
	for method, point := range points {
		m, ok := t.MethodByName(method)
		if !ok {
			continue
		}
		if !t.Implements(point) {
			return fmt.Errorf("%w: plugin %s (%T) has a method %s of type %v, which is not that of schedule.%s",
				ErrInvalid, p.Name(), p, method, m.Type, point.Name())
		}
		implements = true
	}
	if !implements {
		return fmt.Errorf("%w: plugin %s (%T) implements no extension point; are its methods on another receiver?", ErrInvalid, p.Name(), p)
	}
	return nil
}

func newProfile(p Profile, index int) (*profile, error) {
	f := &profile{name: p.Name, index: index}
	if f.name == "" {
		f.name = defaultProfile
	}
	plugins := p.Plugins
	if plugins == nil {
		plugins = DefaultPlugins()
	}
	names := map[string]bool{}
	for _, q := range plugins {
		if err := checkPlugin(q); err != nil {
			return nil, fmt.Errorf("profile %s: %w", f.name, err)
		}
		if names[q.Name()] {
			return nil, fmt.Errorf("profile %s: plugin %s: %w", f.name, q.Name(), ErrExists)
		}
		names[q.Name()] = true
		if err := f.add(q, p.Weights); err != nil {
			return nil, fmt.Errorf("profile %s: %w", f.name, err)
		}
	}
	for name, w := range p.Weights {
		if !names[name] || w < 0 || w > 10_000 {
			return nil, fmt.Errorf("profile %s: %w: weight %d of plugin %q: want 0 to 10000 and a plugin of the profile", f.name, ErrInvalid, w, name)
		}
	}
	if f.queueSort == nil {
		f.queueSort = PrioritySort{}
	}
	f.fused = f.kernel()
	return f, nil
}

// add sorts a plugin into its extension points.
func (f *profile) add(p Plugin, weights map[string]int64) error {
	if v, ok := p.(validator); ok {
		if err := v.validate(); err != nil {
			return fmt.Errorf("%w: plugin %s: %w", ErrInvalid, p.Name(), err)
		}
	}
	_, local := p.(NodeLocalPlugin)
	filter := -1
	if q, ok := p.(FilterPlugin); ok {
		rows, _ := p.(FilterRowsPlugin)
		filter = len(f.filters)
		f.filters = append(f.filters, filterSlot{q, p.Name(), rows, local})
	}
	if q, ok := p.(PreFilterPlugin); ok {
		f.preFilters = append(f.preFilters, preFilterSlot{q, filter})
	}
	if q, ok := p.(PreFilterExtensions); ok {
		f.extensions = append(f.extensions, preFilterExtension{p.Name(), q})
	}
	if q, ok := p.(QueueSortPlugin); ok {
		if f.queueSort != nil {
			return fmt.Errorf("%w: two plugins sort the queue: %s and %s", ErrInvalid, f.queueSort.Name(), p.Name())
		}
		f.queueSort = q
	}
	f.foreign = f.foreign || runsInCycle(p) && reflect.TypeOf(p).PkgPath() != reflect.TypeFor[Cycle]().PkgPath()
	f.addScore(p, local, weights)
	f.addRest(p)
	if _, ok := p.(interface{ factsOnly() }); local && !ok {
		f.local = append(f.local, p.(NodeLocalPlugin))
	}
	return nil
}

// nodeLocal makes a plugin of this package a [NodeLocalPlugin] that reads only
// the facts of the pod, so that nobody need ask for its key.
type nodeLocal struct{}

// LocalKey returns "": the pod's facts are all that matters.
func (nodeLocal) LocalKey(*Pod) string { return "" }

func (nodeLocal) factsOnly() {}

// runsInCycle reports whether a plugin has methods that the scheduler waits for
// with its lock held and without a context.
func runsInCycle(p Plugin) bool {
	switch p.(type) {
	case PreFilterPlugin, FilterPlugin, PreScorePlugin, ScorePlugin:
		return true
	}
	return false
}

// validator is a plugin with settings to check.
type validator interface{ validate() error }

func (f *profile) addScore(p Plugin, local bool, weights map[string]int64) {
	q, ok := p.(ScorePlugin)
	if !ok {
		return
	}
	s := scoreSlot{ScorePlugin: q, name: p.Name(), weight: DefaultWeight(p.Name()), local: local, column: -1}
	if w, ok := weights[s.name]; ok {
		s.weight = w
	}
	s.preScore, _ = p.(PreScorePlugin)
	s.rows, _ = p.(ScoreRowsPlugin)
	if r, ok := p.(rater); ok && r.byShares() {
		s.rater = r
	}
	s.normalize, _ = p.(NormalizeScorePlugin)
	s.scale, _ = p.(RangeNormalizePlugin)
	if s.weight == 0 {
		return
	}
	if s.local && !s.plain() {
		for i := range f.scores {
			s.column = max(s.column, f.scores[i].column)
		}
		s.column++
	}
	f.scores = append(f.scores, s)
}

func (f *profile) addRest(p Plugin) {
	appendAs(&f.preEnqueue, p)
	appendAs(&f.hints, p)
	appendAs(&f.postFilter, p)
	appendAs(&f.reserve, p)
	appendAs(&f.permit, p)
	appendAs(&f.preBind, p)
	appendAs(&f.bind, p)
	appendAs(&f.postBind, p)
}

func appendAs[T any](list *[]T, p Plugin) {
	if q, ok := p.(T); ok {
		*list = append(*list, q)
	}
}

// columns returns how many cached columns of raw scores there are.
func (f *profile) columns() (n int) {
	for i := range f.scores {
		n = max(n, f.scores[i].column+1)
	}
	return n
}
