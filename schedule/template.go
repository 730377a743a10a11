// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"slices"

	"github.com/slipway-dev/slipway/internal/labels"
)

// template is what pods from the same mould have in common: everything that
// decides where they may go, parsed and checked. It does not depend on a
// cluster and never changes, so forks share it.
type template struct {
	key         string
	local       string // the part of the key that node-local plugins go by
	namespace   string
	labels      map[string]string
	terminating bool

	requests []amount // above 0
	cpu      int64    // requested
	memory   int64
	nonzero  [2]int64 // CPU and memory as scores count them

	tolerations []Toleration
	selector    labels.Selector // node selector
	required    []nodeTerm      // node affinity: any of them
	preferred   []weightedNodeTerm
	spread      []spreadTerm
	affinity    podTerms
	anti        podTerms
	ports       []HostPort
	images      []string // normal names
	claims      []string

	contradiction error // why no node could ever take a pod of it

	home *Cluster // that made it
	refs int      // pods there that use it
}

type amount struct {
	name   string
	amount int64
}

type nodeTerm struct {
	labels labels.Selector
	fields []Requirement // on the node's name
}

type weightedNodeTerm struct {
	weight int64
	term   nodeTerm
}

type spreadTerm struct {
	maxSkew     int64
	minDomains  int
	key         string
	soft        bool
	selector    []podSelector // one
	self        int64         // 1 if the pod itself is chosen
	allNodes    bool          // IgnoreNodeAffinity
	honorTaints bool
}

type podTerms struct {
	required  []podTerm
	all       []podSelector // of the required ones, one after the other
	preferred []weightedPodTerm
}

func (p *podTerms) any() bool { return len(p.required)+len(p.preferred) > 0 }

type podTerm struct {
	key  string        // topology key
	pods []podSelector // one
}

type weightedPodTerm struct {
	weight int64
	term   podTerm
}

// podSelector chooses pods by namespace and labels.
type podSelector struct {
	text         string // tells selectors apart
	nothing      bool
	selector     labels.Selector
	namespaces   []string
	byLabels     bool // namespaces may also be chosen by nsSelector
	nsSelector   labels.Selector
	livePodsOnly bool
}

// hasTerms reports whether pods of the template, once placed, matter to the
// affinity of others.
func (t *template) hasTerms() bool { return t.affinity.any() || t.anti.any() }

// newTemplate parses the pod. The error says which field is wrong, and how.
func newTemplate(p *Pod, key string) (*template, error) {
	t := &template{
		key:         key,
		namespace:   p.Namespace,
		labels:      p.Labels, // nobody changes a Pod
		terminating: p.Terminating,
		tolerations: slices.Clone(p.Tolerations),
		ports:       normalPorts(p.HostPorts),
		claims:      slices.Clone(p.Claims),
	}
	t.setRequests(p.Requests)
	for _, image := range p.Images {
		t.images = append(t.images, normalImage(image))
	}
	for _, parse := range []func(*Pod) error{t.parseLabels, t.parsePlain, t.parseNodeAffinity, t.parsePodAffinity, t.parseSpread} {
		if err := parse(p); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *template) setRequests(r Resources) {
	t.requests = make([]amount, 0, 2+len(r.Extended))
	add := func(name string, v int64) {
		if v > 0 {
			t.requests = append(t.requests, amount{name, v})
		}
	}
	add(CPU, r.CPU)
	add(Memory, r.Memory)
	add(EphemeralStorage, r.EphemeralStorage)
	for _, name := range r.extended() {
		add(name, r.Extended[name])
	}
	t.cpu, t.memory = r.CPU, r.Memory
	t.nonzero = [2]int64{r.CPU, r.Memory}
	if r.CPU == 0 {
		t.nonzero[0] = defaultCPU
	}
	if r.Memory == 0 {
		t.nonzero[1] = defaultMemory
	}
}

// request returns what the pod wants of a resource.
func (t *template) request(name string) int64 {
	for i := range t.requests {
		if t.requests[i].name == name {
			return t.requests[i].amount
		}
	}
	return 0
}

func (t *template) parseLabels(p *Pod) error {
	for key, value := range p.Labels {
		if err := labels.ValidateKey(key); err != nil {
			return err
		}
		if err := labels.ValidateValue(value); err != nil {
			return fmt.Errorf("label %q: %w", key, err)
		}
	}
	return p.Requests.validate()
}

func (t *template) parsePlain(p *Pod) error {
	for i, tol := range p.Tolerations {
		if err := tol.validate(); err != nil {
			return fmt.Errorf("toleration %d: %w", i, err)
		}
	}
	for i, port := range p.HostPorts {
		if port.Port < 1 || port.Port > 65535 {
			return fmt.Errorf("host port %d: %d is not from 1 to 65535", i, port.Port)
		}
	}
	return nil
}

func (t *Toleration) validate() error {
	switch t.Operator {
	case "", TolerateEqual, TolerateExists, TolerateGt, TolerateLt:
	default:
		return fmt.Errorf("unknown operator %q (want Equal, Exists, Gt or Lt)", t.Operator)
	}
	if t.Key == "" && t.Operator != TolerateExists {
		return fmt.Errorf("an empty key needs the operator Exists, not %q", t.Operator)
	}
	if t.Operator == TolerateExists && t.Value != "" {
		return fmt.Errorf("the operator Exists takes no value, got %q", t.Value)
	}
	switch t.Effect {
	case "", NoSchedule, PreferNoSchedule, NoExecute:
		return nil
	}
	return fmt.Errorf("unknown effect %q (want NoSchedule, PreferNoSchedule or NoExecute)", t.Effect)
}

func (t *template) parseNodeAffinity(p *Pod) error {
	var err error
	if t.selector, err = labels.FromMap(p.NodeSelector); err != nil {
		return fmt.Errorf("node selector: %w", err)
	}
	for i, term := range p.NodeAffinity.Required {
		parsed, err := parseNodeTerm(term)
		if err != nil {
			return fmt.Errorf("required node affinity, term %d: %w", i, err)
		}
		t.required = append(t.required, parsed)
	}
	t.contradiction = t.findContradiction()
	for i, pref := range p.NodeAffinity.Preferred {
		parsed, err := parseNodeTerm(pref.Term)
		if err == nil {
			err = validateWeight(pref.Weight)
		}
		if err != nil {
			return fmt.Errorf("preferred node affinity, term %d: %w", i, err)
		}
		t.preferred = append(t.preferred, weightedNodeTerm{int64(pref.Weight), parsed})
	}
	return nil
}

func validateWeight(w int32) error {
	if w < 1 || w > 100 {
		return fmt.Errorf("weight %d is not from 1 to 100", w)
	}
	return nil
}

func parseNodeTerm(term NodeSelectorTerm) (nodeTerm, error) {
	var n nodeTerm
	var err error
	if n.labels, err = parseRequirements(term.MatchExpressions); err != nil {
		return n, err
	}
	for _, f := range term.MatchFields {
		if f.Key != "metadata.name" {
			return n, fmt.Errorf("field %q can't be selected by (only metadata.name)", f.Key)
		}
		if f.Operator != In && f.Operator != NotIn || len(f.Values) != 1 {
			return n, fmt.Errorf("field metadata.name takes In or NotIn and one value, got %s %q", f.Operator, f.Values)
		}
		n.fields = append(n.fields, f)
	}
	return n, nil
}

func parseRequirements(list []Requirement) (labels.Selector, error) {
	var s labels.Selector
	for _, r := range list {
		parsed, err := labels.NewRequirement(r.Key, labels.Operator(r.Operator), r.Values...)
		if err != nil {
			return nil, err
		}
		s = append(s, parsed)
	}
	return s, nil
}

// findContradiction looks for requirements that no node can meet: almost always
// a mistake, which would otherwise show as a pod that waits for ever.
func (t *template) findContradiction() error {
	if err := contradiction(t.selector); err != nil {
		return fmt.Errorf("node selector: %w", err)
	}
	var first error
	for i, term := range t.required {
		err := contradiction(slices.Concat(t.selector, term.labels))
		if err == nil {
			return nil
		}
		if first == nil {
			first = fmt.Errorf("required node affinity, term %d: %w", i, err)
		}
	}
	return first
}

// contradiction finds a pair of requirements that exclude each other.
func contradiction(s labels.Selector) error {
	for i, a := range s {
		for _, b := range s[i+1:] {
			if a.Key == b.Key && (excludes(a, b) || excludes(b, a)) {
				return fmt.Errorf("contradictory: no node can meet both %q and %q", a, b)
			}
		}
	}
	return nil
}

// excludes reports whether no value of the label can meet both.
func excludes(a, b labels.Requirement) bool {
	if b.Operator == labels.DoesNotExist {
		return a.Operator != labels.DoesNotExist && a.Operator != labels.NotIn
	}
	if a.Operator != labels.In {
		return false
	}
	return !slices.ContainsFunc(a.Values, func(v string) bool {
		return b.Matches(map[string]string{b.Key: v})
	})
}

func (t *template) parsePodAffinity(p *Pod) error {
	for _, a := range []struct {
		name string
		from *PodAffinity
		to   *podTerms
	}{{"pod affinity", &p.PodAffinity, &t.affinity}, {"pod anti-affinity", &p.PodAntiAffinity, &t.anti}} {
		for i, term := range a.from.Required {
			parsed, err := t.parsePodTerm(&term)
			if err != nil {
				return fmt.Errorf("required %s, term %d: %w", a.name, i, err)
			}
			a.to.required = append(a.to.required, parsed)
			if a.to.all == nil {
				a.to.all = parsed.pods
			} else {
				a.to.all = append(slices.Clip(a.to.all), parsed.pods...)
			}
		}
		for i, pref := range a.from.Preferred {
			parsed, err := t.parsePodTerm(&pref.Term)
			if err == nil {
				err = validateWeight(pref.Weight)
			}
			if err != nil {
				return fmt.Errorf("preferred %s, term %d: %w", a.name, i, err)
			}
			a.to.preferred = append(a.to.preferred, weightedPodTerm{int64(pref.Weight), parsed})
		}
	}
	return nil
}

func (t *template) parsePodTerm(term *PodAffinityTerm) (podTerm, error) {
	if err := labels.ValidateKey(term.TopologyKey); err != nil {
		return podTerm{}, fmt.Errorf("topology key: %w", err)
	}
	s, err := t.parseSelector(term.Selector, term.MatchLabelKeys, term.MismatchLabelKeys)
	if err != nil {
		return podTerm{}, err
	}
	s.namespaces = slices.Clone(term.Namespaces)
	if term.NamespaceSelector != nil {
		s.byLabels = true
		if s.nsSelector, err = parseSelector(term.NamespaceSelector); err != nil {
			return podTerm{}, fmt.Errorf("namespace selector: %w", err)
		}
	} else if len(s.namespaces) == 0 {
		s.namespaces = []string{t.namespace}
	}
	s.setText()
	return podTerm{term.TopologyKey, []podSelector{s}}, nil
}

func (t *template) parseSpread(p *Pod) error {
	for i, c := range p.SpreadConstraint {
		term, err := t.parseSpreadTerm(&c)
		if err != nil {
			return fmt.Errorf("spread constraint %d: %w", i, err)
		}
		t.spread = append(t.spread, term)
	}
	return nil
}

func (t *template) parseSpreadTerm(c *SpreadConstraint) (spreadTerm, error) {
	if err := labels.ValidateKey(c.TopologyKey); err != nil {
		return spreadTerm{}, fmt.Errorf("topology key: %w", err)
	}
	if c.MaxSkew < 1 {
		return spreadTerm{}, fmt.Errorf("max skew %d is below 1", c.MaxSkew)
	}
	if c.MinDomains < 0 || c.MinDomains > 0 && c.ScheduleAnyway {
		return spreadTerm{}, fmt.Errorf("min domains %d: must be positive, and goes with a condition (ScheduleAnyway false) only", c.MinDomains)
	}
	s, err := t.parseSelector(c.Selector, c.MatchLabelKeys, nil)
	if err != nil {
		return spreadTerm{}, err
	}
	s.namespaces = []string{t.namespace}
	s.livePodsOnly = true
	term := spreadTerm{
		maxSkew:     int64(c.MaxSkew),
		minDomains:  max(1, int(c.MinDomains)),
		key:         c.TopologyKey,
		soft:        c.ScheduleAnyway,
		allNodes:    c.IgnoreNodeAffinity,
		honorTaints: c.HonorTaints,
	}
	if !s.nothing && s.selector.Matches(t.labels) {
		term.self = 1
	}
	// Kubernetes counts nobody for a selector without requirements, though the
	// pod matches it itself; so do we.
	s.nothing = s.nothing || len(s.selector) == 0
	s.setText()
	term.selector = []podSelector{s}
	return term, nil
}

// parseSelector parses a selector and adds the pod's own values of some labels.
func (t *template) parseSelector(s *Selector, match, mismatch []string) (podSelector, error) {
	if s == nil {
		return podSelector{nothing: true}, nil
	}
	parsed, err := parseSelector(s)
	if err != nil {
		return podSelector{}, err
	}
	for op, keys := range map[labels.Operator][]string{labels.In: match, labels.NotIn: mismatch} {
		for _, key := range keys {
			value, ok := t.labels[key]
			if !ok {
				continue
			}
			r, err := labels.NewRequirement(key, op, value)
			if err != nil {
				return podSelector{}, err
			}
			parsed = append(parsed, r)
		}
	}
	return podSelector{selector: parsed}, nil
}

func parseSelector(s *Selector) (labels.Selector, error) {
	parsed, err := labels.FromMap(s.MatchLabels)
	if err != nil {
		return nil, err
	}
	for _, r := range s.MatchExpressions {
		if r.Operator == Gt || r.Operator == Lt {
			return nil, fmt.Errorf("label %q: operator %s is for node selectors only", r.Key, r.Operator)
		}
	}
	more, err := parseRequirements(s.MatchExpressions)
	return append(parsed, more...), err
}

func (s *podSelector) setText() {
	slices.SortStableFunc(s.selector, func(a, b labels.Requirement) int {
		if a.Key != b.Key {
			return compareStrings(a.Key, b.Key)
		}
		return compareStrings(string(a.Operator), string(b.Operator))
	})
	var w keyWriter
	w.buf = make([]byte, 0, 64)
	w.parsed(s.selector)
	w.flag(s.nothing)
	w.strs(s.namespaces)
	w.flag(s.byLabels)
	w.parsed(s.nsSelector)
	w.flag(s.livePodsOnly)
	s.text = string(w.buf)
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// matches reports whether pods of template t are chosen, given the labels of
// their namespace.
func (s *podSelector) matches(t *template, namespace map[string]string) bool {
	if s.nothing || s.livePodsOnly && t.terminating {
		return false
	}
	if !slices.Contains(s.namespaces, t.namespace) && !(s.byLabels && s.nsSelector.Matches(namespace)) {
		return false
	}
	return s.selector.Matches(t.labels)
}

// anchor returns a label that every chosen pod has, if the selector names one.
func (s *podSelector) anchor() (label [2]string, ok bool) {
	for _, r := range s.selector {
		if r.Operator == labels.In && len(r.Values) == 1 {
			return [2]string{r.Key, r.Values[0]}, true
		}
	}
	return label, false
}
