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

	preEnqueue []preEnqueueSlot
	queueSort  QueueSortPlugin
	hints      []QueueingHintPlugin
	preFilters []preFilterSlot
	filters    []filterSlot
	postFilter []postFilterSlot
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

type preEnqueueSlot struct {
	PreEnqueuePlugin
	foreign bool
}

type preFilterSlot struct {
	PreFilterPlugin
	filter  int // index of its filter, or -1
	foreign bool
}

func (p *preFilterSlot) ask(c *Cycle) *Status {
	if !p.foreign {
		return p.PreFilter(c)
	}
	c.outside()
	s := p.PreFilter(c)
	c.inside()
	return s
}

type filterSlot struct {
	FilterPlugin
	name    string
	rows    FilterRowsPlugin // nil: call Filter for each node
	local   bool
	foreign bool
}

func (f *filterSlot) ask(c *Cycle, row int32) *Status {
	if !f.foreign {
		return f.Filter(c, NodeInfo{c.table, row})
	}
	c.outside()
	s := f.Filter(c, NodeInfo{c.table, row})
	c.inside()
	return s
}

func (f *filterSlot) askRows(c *Cycle, rows *Rows) {
	if !f.foreign {
		f.rows.FilterRows(c, rows)
		return
	}
	c.outside()
	f.rows.FilterRows(c, rows)
	c.inside()
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
	foreign   bool
	column    int // of the cached raw scores, for a local score to be normalised
}

func (s *scoreSlot) askPreScore(c *Cycle) *Status {
	if !s.foreign {
		return s.preScore.PreScore(c)
	}
	c.outside()
	st := s.preScore.PreScore(c)
	c.inside()
	return st
}

func (s *scoreSlot) ask(c *Cycle, row int32) (int64, *Status) {
	if !s.foreign {
		return s.Score(c, NodeInfo{c.table, row})
	}
	c.outside()
	v, st := s.Score(c, NodeInfo{c.table, row})
	c.inside()
	return v, st
}

func (s *scoreSlot) askRows(c *Cycle, rows *Rows, scores []int64) {
	if !s.foreign {
		s.rows.ScoreRows(c, rows, scores)
		return
	}
	c.outside()
	s.rows.ScoreRows(c, rows, scores)
	c.inside()
}

func (s *scoreSlot) askRange(c *Cycle, score, least, greatest int64) int64 {
	if !s.foreign {
		return s.scale.NormalizeRange(score, least, greatest)
	}
	c.outside()
	v := s.scale.NormalizeRange(score, least, greatest)
	c.inside()
	return v
}

func (s *scoreSlot) askNormalize(c *Cycle, scores []int64) *Status {
	if !s.foreign {
		return s.normalize.NormalizeScore(c, &c.feasible, scores)
	}
	c.outside()
	st := s.normalize.NormalizeScore(c, &c.feasible, scores)
	c.inside()
	return st
}

// plain reports whether the score goes into the cached sum as it is.
func (s *scoreSlot) plain() bool { return s.local && s.normalize == nil && s.scale == nil }

type preFilterExtension struct {
	name string
	PreFilterExtensions
	foreign bool
}

type postFilterSlot struct {
	PostFilterPlugin
	foreign bool
}

func (p *postFilterSlot) ask(c *Cycle, d *Diagnosis) (*PostFilterResult, *Status) {
	if !p.foreign {
		return p.PostFilter(c, d)
	}
	c.outside()
	r, s := p.PostFilter(c, d)
	c.inside()
	return r, s
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
	foreign := fromElsewhere(p)
	filter := -1
	if q, ok := p.(FilterPlugin); ok {
		rows, _ := p.(FilterRowsPlugin)
		filter = len(f.filters)
		f.filters = append(f.filters, filterSlot{q, p.Name(), rows, local, foreign})
	}
	if q, ok := p.(PreFilterPlugin); ok {
		f.preFilters = append(f.preFilters, preFilterSlot{q, filter, foreign})
	}
	if q, ok := p.(PreFilterExtensions); ok {
		f.extensions = append(f.extensions, preFilterExtension{p.Name(), q, foreign})
	}
	if q, ok := p.(QueueSortPlugin); ok {
		if f.queueSort != nil {
			return fmt.Errorf("%w: two plugins sort the queue: %s and %s", ErrInvalid, f.queueSort.Name(), p.Name())
		}
		f.queueSort = q
	}
	f.foreign = f.foreign || runsInCycle(p) && (foreign || callsBack(p))
	if q, ok := p.(PreEnqueuePlugin); ok {
		f.preEnqueue = append(f.preEnqueue, preEnqueueSlot{q, foreign})
	}
	if q, ok := p.(PostFilterPlugin); ok {
		f.postFilter = append(f.postFilter, postFilterSlot{q, foreign})
	}
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

// fromElsewhere reports whether a plugin is none of this package's: then it may
// block.
func fromElsewhere(p Plugin) bool {
	switch p.(type) {
	case objectFilter, objectScore:
		return true // of functions that are
	}
	t := reflect.TypeOf(p)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath() != reflect.TypeFor[Cycle]().PkgPath()
}

// callsBack reports whether a plugin of this package calls functions of the caller
// in the cycle.
func callsBack(p Plugin) bool {
	switch p := p.(type) {
	case VolumeBinding:
		return true
	case DefaultPreemption:
		return p.Budgets != nil
	}
	return false
}

// runsInCycle reports whether a plugin has methods that run in the cycle.
func runsInCycle(p Plugin) bool {
	switch p.(type) {
	case PreFilterPlugin, FilterPlugin, PostFilterPlugin, PreScorePlugin, ScorePlugin:
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
	s := scoreSlot{ScorePlugin: q, name: p.Name(), weight: DefaultWeight(p.Name()), local: local, foreign: fromElsewhere(p), column: -1}
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
	appendAs(&f.hints, p)
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
