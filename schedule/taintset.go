// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"slices"
	"strconv"
)

// taintSets numbers the lists of taints that nodes have: few, so that a class
// decides about each list once and not about each node. Number 0 is no taints.
type taintSets struct {
	index  map[string]int32
	sets   [][]Taint
	shared bool
}

func (s *taintSets) fork() taintSets {
	s.shared = true
	return taintSets{s.index, s.sets, true}
}

func (s *taintSets) id(taints []Taint) int32 {
	if len(taints) == 0 {
		return 0
	}
	var key []byte
	for _, t := range taints {
		key = append(key, t.Key...)
		key = append(key, 0)
		key = append(key, t.Value...)
		key = append(key, 0)
		key = append(key, t.Effect...)
		key = append(key, 0)
	}
	if id, ok := s.index[string(key)]; ok {
		return id
	}
	if s.shared || s.index == nil {
		s.index = cloneMap(s.index)
		s.sets = slices.Clone(s.sets)
		s.shared = false
	}
	id := int32(len(s.sets)) + 1
	s.sets = append(s.sets, slices.Clone(taints))
	s.index[string(key)] = id
	return id
}

// of returns the taints of a set.
func (s *taintSets) of(id int32) []Taint {
	if id == 0 {
		return nil
	}
	return s.sets[id-1]
}

// tolerates reports whether the toleration covers the taint.
func (t *Toleration) tolerates(taint *Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case TolerateExists:
		return true
	case TolerateGt, TolerateLt:
		want, err1 := strconv.ParseInt(t.Value, 10, 64)
		have, err2 := strconv.ParseInt(taint.Value, 10, 64)
		if err1 != nil || err2 != nil {
			return false
		}
		return t.Operator == TolerateGt && have > want || t.Operator == TolerateLt && have < want
	default:
		return t.Value == taint.Value
	}
}

// tolerated reports whether one of the tolerations covers the taint.
func tolerated(tolerations []Toleration, taint *Taint) bool {
	for i := range tolerations {
		if tolerations[i].tolerates(taint) {
			return true
		}
	}
	return false
}

// untolerated returns the first taint that keeps the pod away, or nil.
func untolerated(tolerations []Toleration, taints []Taint) *Taint {
	for i := range taints {
		if e := taints[i].Effect; (e == NoSchedule || e == NoExecute) && !tolerated(tolerations, &taints[i]) {
			return &taints[i]
		}
	}
	return nil
}

// discouraged counts the taints that the pod had better avoid. Only tolerations
// of PreferNoSchedule, or of every effect, can cover them.
func discouraged(tolerations []Toleration, taints []Taint) (n int64) {
	for i := range taints {
		if taints[i].Effect == PreferNoSchedule && !tolerated(tolerations, &taints[i]) {
			n++
		}
	}
	return n
}
