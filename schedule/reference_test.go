// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-dev/slipway/schedule"
)

// This file is a second scheduler, as slow and as simple as can be: each rule is
// written down from Kubernetes' documentation as a loop over everything, without
// any state. The property tests compare the real one with it.

type refCluster struct {
	nodes      []*schedule.Node
	pods       []*schedule.Pod // on nodes; NodeName says where
	namespaces map[string]map[string]string
}

func (c *refCluster) on(node string) (pods []*schedule.Pod) {
	for _, p := range c.pods {
		if p.NodeName == node {
			pods = append(pods, p)
		}
	}
	return pods
}

func refMatches(r schedule.Requirement, labels map[string]string) bool {
	v, ok := labels[r.Key]
	switch r.Operator {
	case schedule.In:
		return ok && slices.Contains(r.Values, v)
	case schedule.NotIn:
		return !ok || !slices.Contains(r.Values, v)
	case schedule.Exists:
		return ok
	case schedule.DoesNotExist:
		return !ok
	}
	a, err := strconv.Atoi(v)
	b, _ := strconv.Atoi(r.Values[0])
	return ok && err == nil && (r.Operator == schedule.Gt && a > b || r.Operator == schedule.Lt && a < b)
}

func refSelects(s *schedule.Selector, labels map[string]string) bool {
	if s == nil {
		return false
	}
	for k, v := range s.MatchLabels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		if !refMatches(r, labels) {
			return false
		}
	}
	return true
}

func refTerm(t schedule.NodeSelectorTerm, n *schedule.Node) bool {
	for _, r := range t.MatchExpressions {
		if !refMatches(r, n.Labels) {
			return false
		}
	}
	for _, r := range t.MatchFields {
		if !refMatches(r, map[string]string{"metadata.name": n.Name}) {
			return false
		}
	}
	return len(t.MatchExpressions)+len(t.MatchFields) > 0
}

func refNodeAffinity(p *schedule.Pod, n *schedule.Node) bool {
	for k, v := range p.NodeSelector {
		if have, ok := n.Labels[k]; !ok || have != v {
			return false
		}
	}
	if len(p.NodeAffinity.Required) == 0 {
		return true
	}
	for _, t := range p.NodeAffinity.Required {
		if refTerm(t, n) {
			return true
		}
	}
	return false
}

func refTolerates(p *schedule.Pod, taint schedule.Taint) bool {
	for _, t := range p.Tolerations {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		want, _ := strconv.Atoi(t.Value)
		have, err := strconv.Atoi(taint.Value)
		switch t.Operator {
		case schedule.TolerateExists:
			return true
		case schedule.TolerateGt:
			if err == nil && have > want {
				return true
			}
		case schedule.TolerateLt:
			if err == nil && have < want {
				return true
			}
		default:
			if t.Value == taint.Value {
				return true
			}
		}
	}
	return false
}

func refTaints(p *schedule.Pod, n *schedule.Node) bool {
	for _, t := range n.Taints {
		if t.Effect != schedule.PreferNoSchedule && !refTolerates(p, t) {
			return false
		}
	}
	return true
}

func refPorts(p, q *schedule.Pod) bool {
	ip := func(h schedule.HostPort) string {
		if h.IP == "" {
			return "0.0.0.0"
		}
		return h.IP
	}
	protocol := func(h schedule.HostPort) string {
		if h.Protocol == "" {
			return "TCP"
		}
		return h.Protocol
	}
	for _, a := range p.HostPorts {
		for _, b := range q.HostPorts {
			if a.Port == b.Port && protocol(a) == protocol(b) && (ip(a) == ip(b) || ip(a) == "0.0.0.0" || ip(b) == "0.0.0.0") {
				return false
			}
		}
	}
	return true
}

type refUsage struct {
	cpu, memory, storage, pods     int64
	nonzeroCPU, nonzeroMemory, gpu int64
}

func (c *refCluster) usage(node string) (u refUsage) {
	for _, p := range c.on(node) {
		u.pods++
		u.cpu += p.Requests.CPU
		u.memory += p.Requests.Memory
		u.storage += p.Requests.EphemeralStorage
		u.gpu += p.Requests.Extended["example.com/gpu"]
		cpu, memory := refNonzero(p)
		u.nonzeroCPU += cpu
		u.nonzeroMemory += memory
	}
	return u
}

func refNonzero(p *schedule.Pod) (cpu, memory int64) {
	cpu, memory = p.Requests.CPU, p.Requests.Memory
	if cpu == 0 {
		cpu = 100
	}
	if memory == 0 {
		memory = 200 << 20
	}
	return cpu, memory
}

func (c *refCluster) fits(p *schedule.Pod, n *schedule.Node) bool { return len(c.shortOf(p, n)) == 0 }

// shortOf names what a node has too little of.
func (c *refCluster) shortOf(p *schedule.Pod, n *schedule.Node) (reasons []string) {
	u, a := c.usage(n.Name), n.Allocatable
	if a.Pods != 0 && u.pods+1 > a.Pods {
		reasons = append(reasons, "Too many pods")
	}
	for _, r := range []struct {
		name              string
		want, used, alloc int64
	}{
		{"cpu", p.Requests.CPU, u.cpu, a.CPU},
		{"memory", p.Requests.Memory, u.memory, a.Memory},
		{"ephemeral-storage", p.Requests.EphemeralStorage, u.storage, a.EphemeralStorage},
		{"example.com/gpu", p.Requests.Extended["example.com/gpu"], u.gpu, a.Extended["example.com/gpu"]},
	} {
		if r.want != 0 && r.used+r.want > r.alloc {
			reasons = append(reasons, "Insufficient "+r.name)
		}
	}
	return reasons
}

// refSelector adds the pod's own labels (matchLabelKeys, mismatchLabelKeys).
func refSelector(s *schedule.Selector, p *schedule.Pod, match, mismatch []string) *schedule.Selector {
	if s == nil {
		return nil
	}
	merged := &schedule.Selector{MatchLabels: s.MatchLabels, MatchExpressions: slices.Clone(s.MatchExpressions)}
	for _, k := range match {
		if v, ok := p.Labels[k]; ok {
			merged.MatchExpressions = append(merged.MatchExpressions, schedule.Requirement{Key: k, Operator: schedule.In, Values: []string{v}})
		}
	}
	for _, k := range mismatch {
		if v, ok := p.Labels[k]; ok {
			merged.MatchExpressions = append(merged.MatchExpressions, schedule.Requirement{Key: k, Operator: schedule.NotIn, Values: []string{v}})
		}
	}
	return merged
}

func (c *refCluster) eligible(p *schedule.Pod, s schedule.SpreadConstraint, n *schedule.Node) bool {
	for _, o := range p.SpreadConstraint {
		if _, ok := n.Labels[o.TopologyKey]; !ok && o.ScheduleAnyway == s.ScheduleAnyway {
			return false
		}
	}
	return (s.IgnoreNodeAffinity || refNodeAffinity(p, n)) && (!s.HonorTaints || refTaints(p, n))
}

func (c *refCluster) spreadCount(p *schedule.Pod, s schedule.SpreadConstraint, n *schedule.Node) (count int64) {
	selector := refSelector(s.Selector, p, s.MatchLabelKeys, nil)
	if selector == nil || len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		return 0
	}
	for _, q := range c.on(n.Name) {
		if !q.Terminating && q.Namespace == p.Namespace && refSelects(selector, q.Labels) {
			count++
		}
	}
	return count
}

func (c *refCluster) spreadHard(p *schedule.Pod, n *schedule.Node) bool {
	for _, s := range p.SpreadConstraint {
		if s.ScheduleAnyway {
			continue
		}
		domain, ok := n.Labels[s.TopologyKey]
		if !ok {
			return false
		}
		counts := map[string]int64{}
		for _, m := range c.nodes {
			if c.eligible(p, s, m) {
				counts[m.Labels[s.TopologyKey]] += c.spreadCount(p, s, m)
			}
		}
		least := int64(math.MaxInt64)
		for _, v := range counts {
			least = min(least, v)
		}
		if len(counts) == 0 || len(counts) < int(max(1, s.MinDomains)) {
			least = 0
		}
		self := int64(0)
		if refSelects(refSelector(s.Selector, p, s.MatchLabelKeys, nil), p.Labels) {
			self = 1
		}
		if counts[domain]+self-least > int64(s.MaxSkew) {
			return false
		}
	}
	return true
}

// chooses reports whether the term of pod owner chooses pod q.
func (c *refCluster) chooses(owner *schedule.Pod, t schedule.PodAffinityTerm, q *schedule.Pod) bool {
	inNamespace := slices.Contains(t.Namespaces, q.Namespace)
	if t.NamespaceSelector != nil {
		inNamespace = inNamespace || refSelects(t.NamespaceSelector, c.namespaces[q.Namespace])
	} else if len(t.Namespaces) == 0 {
		inNamespace = q.Namespace == owner.Namespace
	}
	return inNamespace && refSelects(refSelector(t.Selector, owner, t.MatchLabelKeys, t.MismatchLabelKeys), q.Labels)
}

func (c *refCluster) choosesAll(owner *schedule.Pod, q *schedule.Pod) bool {
	for _, t := range owner.PodAffinity.Required {
		if !c.chooses(owner, t, q) {
			return false
		}
	}
	return true
}

func (c *refCluster) node(name string) *schedule.Node {
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// together reports whether two nodes are in the same domain.
func together(key string, a, b *schedule.Node) bool {
	if a == nil || b == nil {
		return false
	}
	va, oka := a.Labels[key]
	vb, okb := b.Labels[key]
	return oka && okb && va == vb
}

func (c *refCluster) podAffinity(p *schedule.Pod, n *schedule.Node) bool {
	near, anyone := true, false
	for _, t := range p.PodAffinity.Required {
		if _, ok := n.Labels[t.TopologyKey]; !ok {
			return false
		}
		found := false
		for _, q := range c.pods {
			if !c.choosesAll(p, q) {
				continue
			}
			m := c.node(q.NodeName)
			if m != nil {
				if _, ok := m.Labels[t.TopologyKey]; ok {
					anyone = true
				}
			}
			found = found || together(t.TopologyKey, m, n)
		}
		near = near && found
	}
	if !near && (anyone || !c.choosesAll(p, p)) {
		return false
	}
	for _, t := range p.PodAntiAffinity.Required {
		for _, q := range c.pods {
			if c.chooses(p, t, q) && together(t.TopologyKey, c.node(q.NodeName), n) {
				return false
			}
		}
	}
	for _, q := range c.pods {
		for _, t := range q.PodAntiAffinity.Required {
			if c.chooses(q, t, p) && together(t.TopologyKey, c.node(q.NodeName), n) {
				return false
			}
		}
	}
	return true
}

// refusedBy returns the first plugin that refuses the node, in the default order.
func (c *refCluster) refusedBy(p *schedule.Pod, n *schedule.Node) string {
	portsFree := true
	for _, q := range c.on(n.Name) {
		portsFree = portsFree && refPorts(p, q)
	}
	for _, f := range []struct {
		plugin string
		ok     bool
	}{
		{"NodeUnschedulable", !n.Unschedulable || refTolerates(p, schedule.Taint{Key: "node.kubernetes.io/unschedulable", Effect: schedule.NoSchedule})},
		{"NodeReady", !n.NotReady && len(n.Conditions) == 0 || refTolerates(p, schedule.Taint{Key: "node.kubernetes.io/not-ready", Effect: schedule.NoSchedule})},
		{"NodeName", p.NodeName == "" || p.NodeName == n.Name},
		{"TaintToleration", refTaints(p, n)},
		{"NodeAffinity", refNodeAffinity(p, n)},
		{"NodePorts", portsFree},
		{"NodeResourcesFit", c.fits(p, n)},
		{"PodTopologySpread", c.spreadHard(p, n)},
		{"InterPodAffinity", c.podAffinity(p, n)},
	} {
		if !f.ok {
			return f.plugin
		}
	}
	return ""
}

// scores returns the normalised score of each plugin for each feasible node; a
// plugin that has nothing to say is left out.
func (c *refCluster) scores(p *schedule.Pod, feasible []*schedule.Node) map[string]map[string]int64 {
	all := map[string]map[string]int64{}
	each := func(plugin string, f func(n *schedule.Node) int64) map[string]int64 {
		m := map[string]int64{}
		for _, n := range feasible {
			m[n.Name] = f(n)
		}
		all[plugin] = m
		return m
	}
	greatest := func(m map[string]int64) (v int64) {
		for _, s := range m {
			v = max(v, s)
		}
		return v
	}
	taints := each("TaintToleration", func(n *schedule.Node) (v int64) {
		for _, t := range n.Taints {
			if t.Effect == schedule.PreferNoSchedule && !refTolerates(p, t) {
				v++
			}
		}
		return v
	})
	if g := greatest(taints); g == 0 {
		each("TaintToleration", func(*schedule.Node) int64 { return 100 })
	} else {
		each("TaintToleration", func(n *schedule.Node) int64 { return 100 - 100*taints[n.Name]/g })
	}
	affinity := each("NodeAffinity", func(n *schedule.Node) (v int64) {
		for _, t := range p.NodeAffinity.Preferred {
			if refTerm(t.Term, n) {
				v += int64(t.Weight)
			}
		}
		return v
	})
	if g := greatest(affinity); g > 0 {
		each("NodeAffinity", func(n *schedule.Node) int64 { return 100 * affinity[n.Name] / g })
	}
	each("NodeResourcesFit", func(n *schedule.Node) int64 { return c.leastAllocated(p, n) })
	if p.Requests.CPU != 0 || p.Requests.Memory != 0 {
		each("NodeResourcesBalancedAllocation", func(n *schedule.Node) int64 { return c.balanced(p, n) })
	}
	each("ImageLocality", func(n *schedule.Node) int64 { return c.images(p, n) })
	c.interPod(p, feasible, all, each)
	c.softSpread(p, feasible, all, each)
	return all
}

func (c *refCluster) leastAllocated(p *schedule.Pod, n *schedule.Node) int64 {
	u := c.usage(n.Name)
	cpu, memory := refNonzero(p)
	var sum, count int64
	for _, r := range [][2]int64{{n.Allocatable.CPU, u.nonzeroCPU + cpu}, {n.Allocatable.Memory, u.nonzeroMemory + memory}} {
		if r[0] == 0 {
			continue
		}
		count++
		if r[1] <= r[0] {
			sum += (r[0] - r[1]) * 100 / r[0]
		}
	}
	if count == 0 {
		return 0
	}
	return sum / count
}

func (c *refCluster) balanced(p *schedule.Pod, n *schedule.Node) int64 {
	u := c.usage(n.Name)
	balance := func(cpu, memory int64) int64 {
		if n.Allocatable.CPU == 0 || n.Allocatable.Memory == 0 {
			return 100
		}
		a := math.Min(1, float64(cpu)/float64(n.Allocatable.CPU))
		b := math.Min(1, float64(memory)/float64(n.Allocatable.Memory))
		return int64((1 - math.Abs((a-b)/2)) * 100)
	}
	return 50 + (50+balance(u.cpu+p.Requests.CPU, u.memory+p.Requests.Memory)-balance(u.cpu, u.memory))/2
}

func (c *refCluster) images(p *schedule.Pod, n *schedule.Node) int64 {
	if len(p.Images) == 0 {
		return 0
	}
	tagged := func(s string) string {
		if !strings.Contains(s[strings.LastIndex(s, "/")+1:], ":") {
			return s + ":latest"
		}
		return s
	}
	size := func(m *schedule.Node, image string) int64 {
		for name, v := range m.Images {
			if tagged(name) == tagged(image) {
				return v
			}
		}
		return 0
	}
	var sum int64
	for _, image := range p.Images {
		have := 0
		for _, m := range c.nodes {
			if size(m, image) > 0 {
				have++
			}
		}
		sum += int64(float64(size(n, image)) * (float64(have) / float64(len(c.nodes))))
	}
	least, most := int64(23<<20), int64(1000<<20)*int64(len(p.Images))
	return 100 * (min(max(sum, least), most) - least) / (most - least)
}

func (c *refCluster) interPod(p *schedule.Pod, feasible []*schedule.Node, all map[string]map[string]int64, each func(string, func(*schedule.Node) int64) map[string]int64) {
	any := false
	raw := each("InterPodAffinity", func(n *schedule.Node) (v int64) {
		add := func(owner *schedule.Pod, t schedule.PodAffinityTerm, q *schedule.Pod, at *schedule.Node, weight int64) {
			if !c.chooses(owner, t, q) || at == nil {
				return
			}
			if _, ok := at.Labels[t.TopologyKey]; ok {
				any = true
			}
			if together(t.TopologyKey, at, n) {
				v += weight
			}
		}
		for _, q := range c.pods {
			at := c.node(q.NodeName)
			for _, t := range p.PodAffinity.Preferred {
				add(p, t.Term, q, at, int64(t.Weight))
			}
			for _, t := range p.PodAntiAffinity.Preferred {
				add(p, t.Term, q, at, -int64(t.Weight))
			}
			for _, t := range q.PodAffinity.Preferred {
				add(q, t.Term, p, at, int64(t.Weight))
			}
			for _, t := range q.PodAntiAffinity.Preferred {
				add(q, t.Term, p, at, -int64(t.Weight))
			}
			for _, t := range q.PodAffinity.Required {
				add(q, t, p, at, 1)
			}
		}
		return v
	})
	if !any {
		delete(all, "InterPodAffinity")
		return
	}
	least, greatest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, v := range raw {
		least, greatest = min(least, v), max(greatest, v)
	}
	each("InterPodAffinity", func(n *schedule.Node) int64 {
		if greatest == least {
			return 0
		}
		return int64(100 * (float64(raw[n.Name]-least) / float64(greatest-least)))
	})
}

func (c *refCluster) softSpread(p *schedule.Pod, feasible []*schedule.Node, all map[string]map[string]int64, each func(string, func(*schedule.Node) int64) map[string]int64) {
	var soft []schedule.SpreadConstraint
	for _, s := range p.SpreadConstraint {
		if s.ScheduleAnyway {
			soft = append(soft, s)
		}
	}
	if len(soft) == 0 {
		return
	}
	complete := func(n *schedule.Node) bool {
		for _, s := range soft {
			if _, ok := n.Labels[s.TopologyKey]; !ok {
				return false
			}
		}
		return true
	}
	raw := each("PodTopologySpread", func(n *schedule.Node) int64 {
		if !complete(n) {
			return -1
		}
		var sum float64
		for _, s := range soft {
			domains := map[string]bool{}
			for _, m := range feasible {
				if complete(m) {
					if s.TopologyKey == schedule.LabelHostname {
						domains[m.Name] = true
					} else {
						domains[m.Labels[s.TopologyKey]] = true
					}
				}
			}
			var count int64
			if s.TopologyKey == schedule.LabelHostname {
				count = c.spreadCount(p, s, n)
			} else {
				for _, m := range c.nodes {
					if c.eligible(p, s, m) && together(s.TopologyKey, m, n) {
						count += c.spreadCount(p, s, m)
					}
				}
			}
			sum += float64(count)*math.Log(float64(len(domains)+2)) + float64(s.MaxSkew-1)
		}
		return int64(math.Round(sum))
	})
	least, greatest := int64(math.MaxInt64), int64(0)
	for _, v := range raw {
		if v >= 0 {
			least, greatest = min(least, v), max(greatest, v)
		}
	}
	each("PodTopologySpread", func(n *schedule.Node) int64 {
		switch v := raw[n.Name]; {
		case v < 0:
			return 0
		case greatest == 0:
			return 100
		default:
			return 100 * (greatest + least - v) / greatest
		}
	})
}
