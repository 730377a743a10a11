// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"encoding/binary"
	"slices"

	"github.com/slipway-dev/slipway/internal/labels"
)

// keyWriter builds the text that two pods share if they are of one template.
// Lengths go before strings and lists, so that no two pods are confused.
type keyWriter struct {
	buf  []byte
	sort []string
}

func (w *keyWriter) str(s string) {
	w.buf = binary.AppendUvarint(w.buf, uint64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *keyWriter) num(n int64) { w.buf = binary.AppendVarint(w.buf, n) }

func (w *keyWriter) flag(b bool) {
	if b {
		w.buf = append(w.buf, 1)
	} else {
		w.buf = append(w.buf, 0)
	}
}

func (w *keyWriter) strs(list []string) {
	w.num(int64(len(list)))
	for _, s := range list {
		w.str(s)
	}
}

func (w *keyWriter) labels(m map[string]string) {
	w.num(int64(len(m)))
	from := len(w.sort)
	for k := range m {
		w.sort = append(w.sort, k)
	}
	slices.Sort(w.sort[from:])
	for _, k := range w.sort[from:] {
		w.str(k)
		w.str(m[k])
	}
	w.sort = w.sort[:from]
}

func (w *keyWriter) requirements(list []Requirement) {
	w.num(int64(len(list)))
	for i := range list {
		w.str(list[i].Key)
		w.str(string(list[i].Operator))
		w.strs(list[i].Values)
	}
}

func (w *keyWriter) parsed(s labels.Selector) {
	w.num(int64(len(s)))
	for i := range s {
		w.str(s[i].Key)
		w.str(string(s[i].Operator))
		w.strs(s[i].Values)
	}
}

func (w *keyWriter) selector(s *Selector) {
	w.flag(s != nil)
	if s != nil {
		w.labels(s.MatchLabels)
		w.requirements(s.MatchExpressions)
	}
}

func (w *keyWriter) nodeTerm(t *NodeSelectorTerm) {
	w.requirements(t.MatchExpressions)
	w.requirements(t.MatchFields)
}

func (w *keyWriter) podAffinity(a *PodAffinity) {
	w.num(int64(len(a.Required)))
	for i := range a.Required {
		w.podTerm(&a.Required[i])
	}
	w.num(int64(len(a.Preferred)))
	for i := range a.Preferred {
		w.num(int64(a.Preferred[i].Weight))
		w.podTerm(&a.Preferred[i].Term)
	}
}

func (w *keyWriter) podTerm(t *PodAffinityTerm) {
	w.selector(t.Selector)
	w.str(t.TopologyKey)
	w.strs(t.Namespaces)
	w.selector(t.NamespaceSelector)
	w.strs(t.MatchLabelKeys)
	w.strs(t.MismatchLabelKeys)
}

// pod writes everything that a template is made from. First comes all that decides
// by node, that is what the node-local plugins look at; local is its length.
func (w *keyWriter) pod(p *Pod) (key []byte, local int) {
	w.buf = w.buf[:0]
	w.resources(&p.Requests)
	w.tolerations(p.Tolerations)
	w.labels(p.NodeSelector)
	w.nodeAffinity(&p.NodeAffinity)
	w.num(int64(len(p.HostPorts)))
	for i := range p.HostPorts {
		w.str(p.HostPorts[i].IP)
		w.str(p.HostPorts[i].Protocol)
		w.num(int64(p.HostPorts[i].Port))
	}
	w.strs(p.Images)
	local = len(w.buf)
	w.str(p.Namespace)
	w.labels(p.Labels)
	w.flag(p.Terminating)
	w.podAffinity(&p.PodAffinity)
	w.podAffinity(&p.PodAntiAffinity)
	w.num(int64(len(p.SpreadConstraint)))
	for i := range p.SpreadConstraint {
		w.spread(&p.SpreadConstraint[i])
	}
	w.strs(p.Claims)
	return w.buf, local
}

func (w *keyWriter) tolerations(list []Toleration) {
	w.num(int64(len(list)))
	for i := range list {
		w.str(list[i].Key)
		w.str(string(list[i].Operator))
		w.str(list[i].Value)
		w.str(string(list[i].Effect))
	}
}

func (w *keyWriter) resources(r *Resources) {
	w.num(r.CPU)
	w.num(r.Memory)
	w.num(r.EphemeralStorage)
	w.num(int64(len(r.Extended)))
	from := len(w.sort)
	for k := range r.Extended {
		w.sort = append(w.sort, k)
	}
	slices.Sort(w.sort[from:])
	for _, k := range w.sort[from:] {
		w.str(k)
		w.num(r.Extended[k])
	}
	w.sort = w.sort[:from]
}

func (w *keyWriter) nodeAffinity(a *NodeSelection) {
	w.num(int64(len(a.Required)))
	for i := range a.Required {
		w.nodeTerm(&a.Required[i])
	}
	w.num(int64(len(a.Preferred)))
	for i := range a.Preferred {
		w.num(int64(a.Preferred[i].Weight))
		w.nodeTerm(&a.Preferred[i].Term)
	}
}

func (w *keyWriter) spread(c *SpreadConstraint) {
	w.num(int64(c.MaxSkew))
	w.str(c.TopologyKey)
	w.flag(c.ScheduleAnyway)
	w.selector(c.Selector)
	w.strs(c.MatchLabelKeys)
	w.num(int64(c.MinDomains))
	w.flag(c.IgnoreNodeAffinity)
	w.flag(c.HonorTaints)
}
