// SPDX-License-Identifier: Apache-2.0

package schedule

import "maps"

import "slices"

// nominations are the pods that wait for room on a node: victims are being
// evicted for them. Other pods of no higher priority must leave them that room.
type nominations struct {
	byRow map[int32][]*placed
	byKey map[string]*placed
	rows  []int32 // with nominated pods, sorted
}

func (n *nominations) fork() nominations {
	f := nominations{byRow: make(map[int32][]*placed, len(n.byRow)), byKey: make(map[string]*placed, len(n.byKey)), rows: slices.Clone(n.rows)}
	for k, v := range n.byRow {
		f.byRow[k] = slices.Clone(v)
	}
	maps.Copy(f.byKey, n.byKey)
	return f
}

func (n *nominations) on(row int32) []*placed { return n.byRow[row] }

func (n *nominations) add(p *placed) {
	n.remove(p.pod.key())
	if n.byRow == nil {
		n.byRow, n.byKey = map[int32][]*placed{}, map[string]*placed{}
	}
	n.byKey[p.pod.key()] = p
	n.byRow[p.row] = append(n.byRow[p.row], p)
	if i, found := slices.BinarySearch(n.rows, p.row); !found {
		n.rows = slices.Insert(n.rows, i, p.row)
	}
}

func (n *nominations) remove(key string) bool {
	p, ok := n.byKey[key]
	if !ok {
		return false
	}
	delete(n.byKey, key)
	list := slices.DeleteFunc(n.byRow[p.row], func(q *placed) bool { return q == p })
	if len(list) > 0 {
		n.byRow[p.row] = list
		return true
	}
	delete(n.byRow, p.row)
	if i, found := slices.BinarySearch(n.rows, p.row); found {
		n.rows = slices.Delete(n.rows, i, i+1)
	}
	return true
}

// nominate notes that room is being made for the pod on a node.
func (c *Cluster) nominate(pod *Pod, t *template, node string) {
	if row, ok := c.rowOf(node); ok {
		c.nominated.add(newPlaced(pod, t, row))
	}
}
