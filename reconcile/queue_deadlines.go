// SPDX-License-Identifier: Apache-2.0

package reconcile

// deadlines holds the entries that wait, the earliest deadline first. It is a heap
// with four children to a node, half as deep as one with two. The times stand
// beside the entries, so that a comparison touches no entry.
type deadlines[K comparable] struct {
	heap []deadline[K]
}

type deadline[K comparable] struct {
	at    int64
	entry *entry[K]
}

func (d *deadlines[K]) len() int { return len(d.heap) }

func (d *deadlines[K]) first() *entry[K] { return d.heap[0].entry }

// next returns the earliest deadline, or never.
func (d *deadlines[K]) next() int64 {
	if len(d.heap) == 0 {
		return never
	}
	return d.heap[0].at
}

// at returns the deadline of an entry that is here.
func (d *deadlines[K]) at(e *entry[K]) int64 { return d.heap[e.slot].at }

func (d *deadlines[K]) push(e *entry[K], at int64) {
	d.heap = append(d.heap, deadline[K]{})
	d.up(len(d.heap)-1, deadline[K]{at, e})
}

func (d *deadlines[K]) remove(e *entry[K]) {
	i, n := int(e.slot), len(d.heap)-1
	last := d.heap[n]
	d.heap[n] = deadline[K]{}
	d.heap = d.heap[:n]
	switch {
	case i == n:
	case i > 0 && last.at < d.heap[(i-1)/4].at:
		d.up(i, last)
	default:
		d.down(i, last)
	}
	if c := cap(d.heap); c > 64 && n < c/4 {
		d.heap = append(make([]deadline[K], 0, c/2), d.heap...)
	}
}

// up and down put an item where it belongs, from the free place i on.
func (d *deadlines[K]) up(i int, item deadline[K]) {
	for i > 0 && item.at < d.heap[(i-1)/4].at {
		d.put(i, d.heap[(i-1)/4])
		i = (i - 1) / 4
	}
	d.put(i, item)
}

func (d *deadlines[K]) down(i int, item deadline[K]) {
	for {
		least, at := -1, item.at
		for c := 4*i + 1; c <= 4*i+4 && c < len(d.heap); c++ {
			if d.heap[c].at < at {
				least, at = c, d.heap[c].at
			}
		}
		if least < 0 {
			break
		}
		d.put(i, d.heap[least])
		i = least
	}
	d.put(i, item)
}

func (d *deadlines[K]) put(i int, item deadline[K]) {
	d.heap[i] = item
	item.entry.slot = int32(i)
}
