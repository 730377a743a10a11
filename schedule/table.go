// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math/bits"
	"slices"
	"time"
)

// The node table: one row per node, in columns, so that a plugin that looks at
// all nodes reads a few arrays from end to end. Rows are kept in blocks of 64,
// which is what makes a fork cheap: it shares the blocks, and whoever writes to
// a shared block first copies those 64 rows (see block.epoch).

const (
	blockRows = 64
	noRow     = int32(-1)
)

// Indexes of the resources that every table has; extended ones follow.
const (
	resCPU = iota
	resMemory
	resStorage
	resPods
	firstExtended
)

// block holds 64 rows.
type block struct {
	epoch uint64 // the table may write only if this is its own epoch

	live     uint64 // rows with a node
	cordoned uint64 // … that is unschedulable
	unready  uint64 // … that is not ready or has a pressing condition
	ownPods  uint64 // rows whose pods slice no other block shares
	hasPorts uint64 // rows where some pod takes a host port

	alloc   [][blockRows]int64 // by resource; shorter than the table's list where later ones are 0
	used    [][blockRows]int64
	nonzero [2][blockRows]int64 // CPU and memory as scores count them; see defaultCPU
	taints  [blockRows]int32    // taint set

	*gauges
	shape        [blockRows]int32 // size of the node
	shareNonzero [2][blockRows]int64

	node *[blockRows]*Node // nil: no node, or pods that wait for theirs; replaced, never changed
	name [blockRows]string // of the node, also while it is missing
	pods [blockRows][]*placed
}

// gauges are what a cycle reads of every node, 1.1 kB per block, together and apart from
// the rest of the block, which is ten times that.
type gauges struct {
	crowded   uint64              // rows that have all the pods they may have
	scaled    uint64              // rows that have what follows; see rescale
	defaults  uint64              // … where shareNonzero differs from shareUsed
	empty     uint64              // … where nothing is used
	only      int32               // the shape of all nodes of the block, or mixed
	shareUsed [2][blockRows]int64 // of CPU and memory
	balance   [blockRows]int8     // of the shares used; see balanceOfTwo
}

// placed is a pod on a row. It is shared between forks and never changes.
type placed struct {
	pod *Pod
	t   *template
	row int32

	// Copies of the pod's, for preemption, which looks at the pods of many nodes: a Pod
	// is several lines of a cache.
	priority int32
	started  time.Time
}

func newPlaced(pod *Pod, t *template, row int32) *placed {
	return &placed{pod, t, row, pod.Priority, pod.Started}
}

type table struct {
	epoch     uint64
	blocks    []*block
	rows      int     // rows in use or free
	free      []int32 // rows that were given back
	liveRows  int
	version   uint64        // counts the changes to nodes
	names     cowMap[int32] // node name -> row
	resources resourceIndex
	taintSets taintSets
	shapes    shapes
	short     []*Status               // by resource: that a node has too little of it
	columns   map[string]*column      // by label key; made on first use
	images    map[string]*imageColumn // by normal name; made on first use
	log       changeLog
}

func newTable() *table {
	return &table{
		names:   newCowMap[int32](),
		columns: map[string]*column{},
		images:  map[string]*imageColumn{},
	}
}

// fork returns a table with the same content. Both go on to copy what they
// share before they write to it.
func (t *table) fork() *table {
	t.epoch++
	f := &table{
		epoch:     t.epoch,
		blocks:    slices.Clone(t.blocks),
		rows:      t.rows,
		free:      slices.Clone(t.free),
		liveRows:  t.liveRows,
		version:   t.version,
		names:     t.names.fork(),
		resources: t.resources.fork(),
		taintSets: t.taintSets.fork(),
		shapes:    t.shapes.fork(),
		columns:   make(map[string]*column, len(t.columns)),
		images:    map[string]*imageColumn{},
	}
	for key, c := range t.columns {
		f.columns[key] = c.fork()
	}
	// Both are at this epoch now and no block is: the first write copies.
	return f
}

// block returns the block of a row for writing.
func (t *table) block(row int32) (*block, int) {
	i := int(row) / blockRows
	b := t.blocks[i]
	if b.epoch != t.epoch {
		c := *b
		c.epoch = t.epoch
		c.ownPods = 0
		c.alloc = slices.Clone(b.alloc)
		c.used = slices.Clone(b.used)
		c.gauges = new(*b.gauges)
		b = &c
		t.blocks[i] = b
	}
	return b, int(row) % blockRows
}

// at returns the block of a row for reading.
func (t *table) at(row int32) (*block, int) {
	return t.blocks[int(row)/blockRows], int(row) % blockRows
}

// node returns the node of a row, or nil.
func (t *table) node(row int32) *Node {
	b, i := t.at(row)
	return b.node[i]
}

// rowOf returns the row of a name, making one if there is none.
func (t *table) rowOf(name string) int32 {
	if row, ok := t.names.get(name); ok {
		return row
	}
	var row int32
	if n := len(t.free); n > 0 {
		row = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		row = int32(t.rows)
		t.rows++
		if int(row)%blockRows == 0 {
			t.blocks = append(t.blocks, &block{epoch: t.epoch, gauges: &gauges{}, node: new([blockRows]*Node)})
		}
	}
	t.names.put(name, row)
	b, i := t.block(row)
	b.name[i] = name
	return row
}

// release gives a row back once it has neither node nor pods.
func (t *table) release(row int32) {
	b, i := t.at(row)
	if b.node[i] != nil || len(b.pods[i]) > 0 {
		return
	}
	b, i = t.block(row)
	t.names.remove(b.name[i])
	b.name[i] = ""
	t.free = append(t.free, row)
}

// setNode gives a row its node, or takes it away if n is nil.
func (t *table) setNode(row int32, n *Node) {
	t.version++
	b, i := t.block(row)
	bit := uint64(1) << i
	old := b.node[i]
	t.setColumns(row, n)
	t.setImages(row, n)
	nodes := *b.node
	nodes[i] = n
	b.node = &nodes
	b.live &^= bit
	b.cordoned &^= bit
	b.unready &^= bit
	b.shape[i] = 0
	for r := range b.alloc {
		b.alloc[r][i] = 0
	}
	if old != nil {
		t.liveRows--
	}
	if n != nil {
		t.liveRows++
		b.live |= bit
		if n.Unschedulable {
			b.cordoned |= bit
		}
		if n.NotReady || len(n.Conditions) > 0 {
			b.unready |= bit
		}
		b.taints[i] = t.taintSets.id(n.Taints)
		t.setAllocatable(b, i, n)
	}
	b.rescale(i)
	b.compareShapes()
	if len(t.shapes.list) > 1024+2*t.rows {
		t.renumber()
	}
	t.log.add(row)
}

func (t *table) setAllocatable(b *block, i int, n *Node) {
	a := n.Allocatable
	pods := a.Pods
	if pods == 0 {
		pods = MaxQuantity
	}
	for r, v := range [...]int64{resCPU: a.CPU, resMemory: a.Memory, resStorage: a.EphemeralStorage, resPods: pods} {
		b.grow(r)
		b.alloc[r][i] = v
	}
	for name, v := range a.Extended {
		r := t.resources.id(name)
		b.grow(r)
		b.alloc[r][i] = v
	}
	b.shape[i] = t.shapes.id(shape{a.CPU, a.Memory})
}

// grow makes room for resource r.
func (b *block) grow(r int) {
	for len(b.alloc) <= r {
		b.alloc = append(b.alloc, [blockRows]int64{})
		b.used = append(b.used, [blockRows]int64{})
	}
}

// column returns the allocatable and used amounts of resource r, which may be
// one that no node of the block has.
func (b *block) column(r int) (alloc, used *[blockRows]int64) {
	if r < len(b.alloc) {
		return &b.alloc[r], &b.used[r]
	}
	return &zeroColumn, &zeroColumn
}

// zeroColumn is only read.
var zeroColumn [blockRows]int64

// addPod puts a pod on its row and counts what it takes.
func (t *table) addPod(p *placed, x *class) {
	b, i := t.block(p.row)
	bit := uint64(1) << i
	if b.ownPods&bit == 0 {
		b.pods[i] = append(make([]*placed, 0, len(b.pods[i])+4), b.pods[i]...)
		b.ownPods |= bit
	}
	b.pods[i] = append(b.pods[i], p)
	b.use(i, x, 1)
	if len(p.pod.HostPorts) > 0 {
		b.hasPorts |= bit
	}
	t.log.add(p.row)
}

// removePod takes a pod off its row.
func (t *table) removePod(p *placed, x *class) {
	b, i := t.block(p.row)
	bit := uint64(1) << i
	at := slices.Index(b.pods[i], p)
	if b.ownPods&bit == 0 {
		b.pods[i] = slices.Clone(b.pods[i])
		b.ownPods |= bit
	}
	b.pods[i] = slices.Delete(b.pods[i], at, at+1)
	b.use(i, x, -1)
	if len(p.pod.HostPorts) > 0 && !slices.ContainsFunc(b.pods[i], func(q *placed) bool { return len(q.pod.HostPorts) > 0 }) {
		b.hasPorts &^= bit
	}
	t.log.add(p.row)
}

// use adds the requests of a pod of class x to a row, or takes them off if sign is
// -1.
func (b *block) use(i int, x *class, sign int64) {
	for j := range x.requests {
		r := &x.requests[j]
		b.grow(r.resource)
		b.used[r.resource][i] += sign * r.amount
	}
	b.grow(resPods)
	b.used[resPods][i] += sign
	b.nonzero[0][i] += sign * x.t.nonzero[0]
	b.nonzero[1][i] += sign * x.t.nonzero[1]
	b.rescale(i)
}

// resourceIndex numbers the resources.
type resourceIndex struct {
	extended map[string]int
	shared   bool
}

func (x *resourceIndex) fork() resourceIndex {
	x.shared = true
	return resourceIndex{x.extended, true}
}

// id returns the number of a resource, giving it one if it is new.
func (x *resourceIndex) id(name string) int {
	switch name {
	case CPU:
		return resCPU
	case Memory:
		return resMemory
	case EphemeralStorage:
		return resStorage
	case Pods:
		return resPods
	}
	if id, ok := x.extended[name]; ok {
		return id
	}
	if x.shared || x.extended == nil {
		x.extended = cloneMap(x.extended)
		x.shared = false
	}
	id := firstExtended + len(x.extended)
	x.extended[name] = id
	return id
}

// insufficient returns the status for a resource that a node has too little of.
func (t *table) insufficient(id int, name string) *Status {
	for len(t.short) <= id {
		t.short = append(t.short, nil)
	}
	if t.short[id] == nil {
		t.short[id] = Reject("Insufficient " + name)
	}
	return t.short[id]
}

// changeLog lists the rows that changed, so that a [class] can bring its
// cached verdicts up to date without looking at the others.
type changeLog struct {
	next  uint64 // number of the next entry; the entries kept are the last of them
	ring  []int32
	muted bool // during a trial, which leaves nothing changed
}

// logSize bounds what a class can catch up on; one that is further behind
// looks at all rows again.
const logSize = 4096

func (l *changeLog) add(row int32) {
	if l.muted {
		return
	}
	if l.ring == nil {
		l.ring = make([]int32, logSize)
	}
	l.ring[l.next%logSize] = row
	l.next++
}

// since yields the changed rows into set and reports false if the log does not
// reach back to seq, or only just: then a full look is cheaper.
func (l *changeLog) since(seq uint64, rows int, set []uint64) bool {
	gap := l.next - seq
	if gap > logSize || gap > uint64(rows) {
		return false
	}
	for ; seq < l.next; seq++ {
		row := l.ring[seq%logSize]
		set[row/blockRows] |= 1 << (row % blockRows)
	}
	return true
}

// popcount counts the bits of a set.
func popcount(words []uint64) (n int) {
	for _, w := range words {
		n += bits.OnesCount64(w)
	}
	return n
}

// find returns the number of a resource, one beyond all others if it is unknown.
func (x *resourceIndex) find(name string) int {
	switch name {
	case CPU:
		return resCPU
	case Memory:
		return resMemory
	case EphemeralStorage:
		return resStorage
	case Pods:
		return resPods
	}
	if id, ok := x.extended[name]; ok {
		return id
	}
	return firstExtended + len(x.extended)
}

// replacePod puts p in the place of old, which counts the same.
func (t *table) replacePod(old, p *placed) {
	b, i := t.block(p.row)
	at := slices.Index(b.pods[i], old)
	if bit := uint64(1) << i; b.ownPods&bit == 0 {
		b.pods[i] = slices.Clone(b.pods[i])
		b.ownPods |= bit
	}
	b.pods[i][at] = p
}
