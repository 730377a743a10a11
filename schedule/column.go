// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"slices"
	"strconv"
)

// column holds one label of all nodes: its values are numbered, and each row
// has the number of its own. It serves node selectors, which compare numbers,
// and topology domains, which are the numbers. The wrapper stays the same while
// its data is replaced, so that others may keep a pointer to it.
type column struct {
	*columnData
	shared bool       // with a fork: copy before writing
	sets   [][]uint64 // by value: the rows that have it; see rowSets
	any    []uint64   // the rows that have a value; nil: not known
}

type columnData struct {
	key     string
	ids     []int32 // by row; absent where the node has no such label
	values  []string
	index   map[string]int32
	members [][]int32 // by value: the rows that have it
	numbers []number  // by value, as far as Gt and Lt have asked
}

type number struct {
	n  int64
	ok bool
}

const absent = int32(-1)

// nameKey is the key of the column of node names. It is no valid label key.
const nameKey = "metadata.name/"

func (c *column) fork() *column {
	c.shared = true
	return &column{columnData: c.columnData, shared: true}
}

// write makes the data its own.
func (c *column) write() {
	if !c.shared {
		return
	}
	d := *c.columnData
	d.ids = slices.Clone(d.ids)
	d.values = slices.Clone(d.values)
	d.index = cloneMap(d.index)
	d.members = slices.Clone(d.members)
	for i, m := range d.members {
		d.members[i] = slices.Clip(m) // so that append copies
	}
	d.numbers = slices.Clone(d.numbers)
	c.columnData = &d
	c.shared = false
}

// id numbers a value.
func (c *column) id(value string) int32 {
	if id, ok := c.index[value]; ok {
		return id
	}
	c.write()
	id := int32(len(c.values))
	c.values = append(c.values, value)
	c.members = append(c.members, nil)
	c.index[value] = id
	return id
}

// set changes the value of a row.
func (c *column) set(row, id int32) {
	if int(row) < len(c.ids) && c.ids[row] == id {
		return
	}
	c.write()
	c.sets, c.any = nil, nil
	for len(c.ids) <= int(row) {
		c.ids = append(c.ids, absent)
	}
	if old := c.ids[row]; old != absent {
		m := slices.Clone(c.members[old]) // a fork may share it
		c.members[old] = slices.DeleteFunc(m, func(r int32) bool { return r == row })
	}
	c.ids[row] = id
	if id != absent {
		c.members[id] = append(c.members[id], row)
	}
}

// coarse is the number of values up to which a column is worth having as sets of
// rows: then what holds for a whole domain is done by words, not by rows.
const coarse = 64

// rowSets returns the rows of each value, or nil if there are too many values.
func (c *column) rowSets() [][]uint64 {
	if len(c.values) > coarse {
		return nil
	}
	if len(c.sets) != len(c.values) {
		words := (len(c.ids) + blockRows - 1) / blockRows
		c.sets = make([][]uint64, len(c.values))
		for v := range c.sets {
			c.sets[v] = make([]uint64, words)
			for _, row := range c.members[v] {
				c.sets[v][row/blockRows] |= 1 << (row % blockRows)
			}
		}
	}
	return c.sets
}

// labelled returns the rows that have a value.
func (c *column) labelled() []uint64 {
	if c.any == nil {
		c.any = make([]uint64, (len(c.ids)+blockRows-1)/blockRows)
		for row, id := range c.ids {
			if id != absent {
				c.any[row/blockRows] |= 1 << (row % blockRows)
			}
		}
	}
	return c.any
}

// of returns the value number of a row.
func (c *columnData) of(row int32) int32 {
	if int(row) >= len(c.ids) {
		return absent
	}
	return c.ids[row]
}

// number returns a value as a whole number.
func (c *column) number(id int32) (int64, bool) {
	if int(id) >= len(c.numbers) {
		c.write()
		for i := len(c.numbers); i < len(c.values); i++ {
			n, err := strconv.ParseInt(c.values[i], 10, 64)
			c.numbers = append(c.numbers, number{n, err == nil})
		}
	}
	return c.numbers[id].n, c.numbers[id].ok
}

// column returns the column of a label key, building it on first use.
func (t *table) column(key string) *column {
	if c, ok := t.columns[key]; ok {
		return c
	}
	c := &column{columnData: &columnData{key: key, index: map[string]int32{}}}
	t.columns[key] = c
	for row := range int32(t.rows) {
		t.setColumn(c, row, t.node(row))
	}
	return c
}

// setColumns brings all columns up to date with a row's node.
func (t *table) setColumns(row int32, n *Node) {
	for _, c := range t.columns {
		t.setColumn(c, row, n)
	}
}

func (t *table) setColumn(c *column, row int32, n *Node) {
	id := absent
	if n != nil {
		if c.key == nameKey {
			id = c.id(n.Name)
		} else if v, ok := n.Labels[c.key]; ok {
			id = c.id(v)
		}
	}
	c.set(row, id)
}

// imageColumn holds one image of all nodes: its size by row, 0 where it is
// missing. Unlike label columns it is not shared with forks, which make their own
// on first use.
type imageColumn struct {
	size  []int64
	nodes int // that have it
}

// image returns the column of an image's normal name, building it on first use.
func (t *table) image(name string) *imageColumn {
	if c, ok := t.images[name]; ok {
		return c
	}
	c := &imageColumn{}
	t.images[name] = c
	for row := range int32(t.rows) {
		if n := t.node(row); n != nil {
			c.set(row, n.imageSize(name))
		}
	}
	return c
}

func (c *imageColumn) set(row int32, size int64) {
	for len(c.size) <= int(row) {
		c.size = append(c.size, 0)
	}
	if c.size[row] > 0 {
		c.nodes--
	}
	if size > 0 {
		c.nodes++
	}
	c.size[row] = size
}

// setImages brings the image columns up to date with a row's node.
func (t *table) setImages(row int32, n *Node) {
	for name, c := range t.images {
		var size int64
		if n != nil {
			size = n.imageSize(name)
		}
		c.set(row, size)
	}
}

// imageSize returns the size of the image with that normal name, 0 if the node
// lacks it.
func (n *Node) imageSize(name string) int64 {
	if size, ok := n.Images[name]; ok {
		return size
	}
	for image, size := range n.Images { // names without a tag
		if normalImage(image) == name {
			return size
		}
	}
	return 0
}
