// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/slipway-dev/slipway/internal/labels"
)

// Cluster is the state that decisions are made from, nodes and the pods on them,
// and makes them: plain functions without goroutines or clocks. A [Scheduler]
// keeps one; on its own, or as a fork, it answers what-if questions.
//
// A Cluster is not safe for concurrent use, but a fork and its origin may be used
// at the same time.
type Cluster struct {
	table      *table
	profiles   []*profile
	placed     cowMap[*placed] // by pod key
	namespaces map[string]map[string]string
	sharedNS   bool
	nominated  nominations
	evicting   map[string]bool // pods that preemption has chosen, by key

	templates map[string]*template
	classes   map[*template]*class
	counters  counters
	withTerms int  // placed pods that matter to the affinity of others
	partial   bool // counters know only some of the placed pods' templates; see derive
	derived   bool
	index     map[*template][]int32 // see byTemplate
	indexed   uint64

	locals map[string]*localCaches
	caches []cacheSlot
	clock  uint64
	sweep  int // number of templates at which to look for unused ones
	seed   uint64
	rand   *rand.Rand
	cycle  Cycle
	key    keyWriter
}

// NewCluster returns an empty cluster that decides by the given profiles; none
// means the default one. Decisions depend on nothing but the seed and the calls
// made: with the same seed, which must not be 0, the same calls give the same
// placements. Seed 0 stands for a random one.
func NewCluster(seed uint64, profiles ...Profile) (*Cluster, error) {
	if len(profiles) == 0 {
		profiles = []Profile{{}}
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	c := &Cluster{
		table:      newTable(),
		placed:     newCowMap[*placed](),
		namespaces: map[string]map[string]string{},
		seed:       seed,
		derived:    true,
	}
	for i, p := range profiles {
		f, err := newProfile(p, i)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(c.profiles, func(o *profile) bool { return o.name == f.name }) {
			return nil, fmt.Errorf("profile %s: %w", f.name, ErrExists)
		}
		c.profiles = append(c.profiles, f)
	}
	c.init()
	return c, nil
}

// init sets up what every cluster has of its own.
func (c *Cluster) init() {
	c.templates = map[string]*template{}
	c.classes = map[*template]*class{}
	c.locals = map[string]*localCaches{}
	c.counters = newCounters()
	c.sweep = 1024
	c.rand = rand.New(rand.NewPCG(c.seed, 0))
	c.cycle = Cycle{cluster: c, table: c.table}
}

// Fork returns a copy that can be changed without effect on c, and the other way
// round. It costs a few microseconds whatever the size: what is written to
// afterwards, on either side, is copied in small pieces.
func (c *Cluster) Fork() *Cluster {
	c.sharedNS = true
	f := &Cluster{
		table:      c.table.fork(),
		profiles:   c.profiles,
		placed:     c.placed.fork(),
		namespaces: c.namespaces,
		sharedNS:   true,
		nominated:  c.nominated.fork(),
		withTerms:  c.withTerms,
		partial:    true,
		seed:       c.rand.Uint64(),
	}
	f.init()
	return f
}

// derive counts the pods with affinity terms that were placed before the fork;
// everything else is counted when it is first asked for.
func (c *Cluster) derive() {
	if c.derived {
		return
	}
	c.derived = true
	if c.withTerms == 0 {
		return
	}
	for row := range int32(c.table.rows) {
		b, i := c.table.at(row)
		if b.node[i] == nil {
			continue
		}
		for _, p := range b.pods[i] {
			if !p.t.hasTerms() {
				continue
			}
			for _, k := range c.classOf(p.t).feed {
				if k.kind != countMatching {
					k.add(c.table, row, 1)
				}
			}
		}
	}
}

// AddNode adds a node. Pods that were added before it, because they are on it,
// count from now on.
func (c *Cluster) AddNode(n *Node) error {
	if err := n.validate(); err != nil {
		return err
	}
	if row, ok := c.table.names.get(n.Name); ok && c.table.node(row) != nil {
		return fmt.Errorf("node %s: %w", n.Name, ErrExists)
	}
	c.derive()
	row := c.table.rowOf(n.Name)
	pods := c.podsByCounter(row)
	c.table.setNode(row, n)
	c.join(row, pods)
	return nil
}

// UpdateNode replaces a node.
func (c *Cluster) UpdateNode(n *Node) error {
	if err := n.validate(); err != nil {
		return err
	}
	row, ok := c.rowOf(n.Name)
	if !ok {
		return fmt.Errorf("node %s: %w", n.Name, ErrNotFound)
	}
	old := c.table.node(row)
	if maps.Equal(old.Labels, n.Labels) && slices.Equal(old.Taints, n.Taints) {
		c.table.setNode(row, n) // nothing that pods are counted by
		return nil
	}
	c.derive()
	pods := c.podsByCounter(row)
	c.leave(row, pods)
	c.table.setNode(row, n)
	c.join(row, pods)
	return nil
}

// RemoveNode removes a node. Pods on it stay known, without counting for
// anything, until they are removed or the node comes back.
func (c *Cluster) RemoveNode(name string) error {
	row, ok := c.rowOf(name)
	if !ok {
		return fmt.Errorf("node %s: %w", name, ErrNotFound)
	}
	c.derive()
	for _, p := range slices.Clone(c.nominated.on(row)) {
		c.nominated.remove(p.pod.key())
	}
	c.leave(row, c.podsByCounter(row))
	c.table.setNode(row, nil)
	c.table.release(row)
	return nil
}

// rowOf finds the row of a node that exists.
func (c *Cluster) rowOf(name string) (int32, bool) {
	row, ok := c.table.names.get(name)
	return row, ok && c.table.node(row) != nil
}

// Node returns a node, or nil.
func (c *Cluster) Node(name string) *Node {
	if row, ok := c.rowOf(name); ok {
		return c.table.node(row)
	}
	return nil
}

// NodeInfo returns a node with what is on it. It is valid until the cluster
// changes.
func (c *Cluster) NodeInfo(name string) (NodeInfo, bool) {
	row, ok := c.rowOf(name)
	return NodeInfo{c.table, row}, ok
}

// Nodes yields all nodes, in the order in which they were added unless some were
// removed.
func (c *Cluster) Nodes() iter.Seq[NodeInfo] {
	return func(yield func(NodeInfo) bool) {
		for row := range int32(c.table.rows) {
			if c.table.node(row) != nil && !yield(NodeInfo{c.table, row}) {
				return
			}
		}
	}
}

// Pod returns a pod that is on a node, by its UID, or Namespace/Name if it has
// none; nil if there is no such pod.
func (c *Cluster) Pod(uid string) *Pod {
	if p, ok := c.placed.get(uid); ok {
		return p.pod
	}
	return nil
}

// Pods counts the pods that are on nodes, also on nodes that are not known.
func (c *Cluster) Pods() int { return c.placed.n }

// AddPod adds a pod that is on a node: NodeName says which. If the node is not
// known, the pod is kept, counts as soon as the node is added, and the error says
// so: it wraps ErrNotFound.
func (c *Cluster) AddPod(pod *Pod) error {
	if pod.NodeName == "" {
		return fmt.Errorf("pod %s: %w: it is on no node", pod, ErrInvalid)
	}
	if _, ok := c.placed.get(pod.key()); ok {
		return fmt.Errorf("pod %s: %w", pod, ErrExists)
	}
	t, err := c.template(pod)
	if err != nil {
		return err
	}
	if err := c.add(pod, t, pod.NodeName); err != nil {
		return err
	}
	if c.Node(pod.NodeName) == nil {
		return fmt.Errorf("pod %s is on node %s: node %w; the pod counts once the node is added", pod, pod.NodeName, ErrNotFound)
	}
	return nil
}

// add puts a pod on a node.
func (c *Cluster) add(pod *Pod, t *template, node string) error {
	c.derive()
	row := c.table.rowOf(node)
	if err := c.overflow(t, row); err != nil {
		c.table.release(row)
		return fmt.Errorf("pod %s on node %s: %w: %w", pod, node, ErrInvalid, err)
	}
	p := newPlaced(pod, t, row)
	t.ref(c)
	c.placed.put(pod.key(), p)
	c.put(p)
	return nil
}

// maxSum bounds what the pods of a node may request in sum, so that differences
// can't overflow.
const maxSum int64 = 1 << 61

// overflow checks that the sums of a node stay within bounds.
func (c *Cluster) overflow(t *template, row int32) error {
	b, i := c.table.at(row)
	for _, r := range t.requests {
		if _, used := b.column(c.table.resources.find(r.name)); used[i] > maxSum-r.amount {
			return fmt.Errorf("the sum of %s on the node would be above %d", r.name, maxSum)
		}
	}
	return nil
}

// put counts a pod on its row. It does not make it known by name.
func (c *Cluster) put(p *placed) {
	x := c.classOf(p.t) // first: a new class counts the pods that are there
	x.placed++
	c.table.addPod(p, x)
	if p.t.hasTerms() {
		c.withTerms++
	}
	if c.table.node(p.row) != nil {
		for _, k := range x.feed {
			k.add(c.table, p.row, 1)
		}
	}
}

// take is the reverse of put.
func (c *Cluster) take(p *placed) {
	x := c.classOf(p.t)
	x.placed--
	c.table.removePod(p, x)
	if p.t.hasTerms() {
		c.withTerms--
	}
	if c.table.node(p.row) != nil {
		for _, k := range x.feed {
			k.add(c.table, p.row, -1)
		}
	}
}

// UpdatePod replaces a pod that is on a node; it may have moved to another.
func (c *Cluster) UpdatePod(pod *Pod) error {
	old, ok := c.placed.get(pod.key())
	if !ok {
		return fmt.Errorf("pod %s: %w", pod, ErrNotFound)
	}
	if pod.NodeName == "" {
		return fmt.Errorf("pod %s: %w: it is on no node", pod, ErrInvalid)
	}
	t, err := c.template(pod)
	if err != nil {
		return err
	}
	b, i := c.table.at(old.row)
	if old.t == t && b.name[i] == pod.NodeName {
		c.replace(old, pod)
		return nil
	}
	c.drop(old)
	return c.add(pod, t, pod.NodeName)
}

// replace swaps a pod for one that counts the same.
func (c *Cluster) replace(old *placed, pod *Pod) {
	if old.pod == pod {
		return
	}
	p := newPlaced(pod, old.t, old.row)
	c.placed.put(pod.key(), p)
	c.table.replacePod(old, p)
}

// RemovePod removes a pod from its node, by its UID, or Namespace/Name if it has
// none.
func (c *Cluster) RemovePod(uid string) error {
	p, ok := c.placed.get(uid)
	if !ok {
		return fmt.Errorf("pod %s: %w", uid, ErrNotFound)
	}
	c.derive()
	c.drop(p)
	return nil
}

// drop forgets a placed pod.
func (c *Cluster) drop(p *placed) {
	c.placed.remove(p.pod.key())
	c.take(p)
	p.t.unref(c)
	c.table.release(p.row)
}

// SetNamespace sets the labels of a namespace, by which affinity terms may choose
// it; nil forgets them.
func (c *Cluster) SetNamespace(name string, labels map[string]string) {
	if maps.Equal(c.namespaces[name], labels) {
		return
	}
	if c.sharedNS {
		c.namespaces, c.sharedNS = cloneMap(c.namespaces), false
	}
	if labels == nil {
		delete(c.namespaces, name)
	} else {
		c.namespaces[name] = maps.Clone(labels)
	}
	if c.counters.byNamespace || c.partial {
		c.recount()
	}
}

// recount begins all counters anew.
func (c *Cluster) recount() {
	placed := map[*template]int{}
	for t, x := range c.classes {
		placed[t] = x.placed
	}
	c.classes = map[*template]*class{}
	c.counters = newCounters()
	c.locals, c.caches = map[string]*localCaches{}, nil
	c.partial, c.derived = true, false
	c.derive()
	for t, n := range placed {
		if n != 0 {
			c.classOf(t).placed = n
		}
	}
}

// profile finds the profile that a pod asks for.
func (c *Cluster) profile(pod *Pod) (*profile, error) {
	name := pod.SchedulerName
	if name == "" {
		name = defaultProfile
	}
	for _, p := range c.profiles {
		if p.name == name || pod.SchedulerName == "" && len(c.profiles) == 1 {
			return p, nil
		}
	}
	return nil, fmt.Errorf("pod %s: profile %q: %w", pod, name, ErrNotFound)
}

// template returns the pod's template. It does not count the pod as a user.
func (c *Cluster) template(pod *Pod) (*template, error) {
	if pod.Name == "" {
		return nil, fmt.Errorf("%w: a pod in namespace %q has no name", ErrInvalid, pod.Namespace)
	}
	key, local := c.key.pod(pod)
	if p, err := c.profile(pod); err == nil && len(p.local) > 0 {
		c.key.str(p.name)
		for _, q := range p.local {
			var text string
			if err := guard(site{q.Name(), "LocalKey", pod, nil}, func() *Status { text = q.LocalKey(pod); return nil }); err != nil {
				return nil, err
			}
			c.key.str(text)
		}
		key, local = c.key.buf, len(c.key.buf) // others may look at anything
	}
	if t, ok := c.templates[string(key)]; ok {
		return t, nil
	}
	t, err := newTemplate(pod, string(key))
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w: %w", pod, ErrInvalid, err)
	}
	if len(c.templates) >= c.sweep {
		c.forgetUnused()
	}
	t.local = t.key[:local]
	t.home = c
	c.templates[t.key] = t
	return t, nil
}

// unref counts one user less. Templates of a cluster's origin are not its to
// count.
func (t *template) unref(c *Cluster) {
	if t.home == c {
		t.refs--
	}
}

func (t *template) ref(c *Cluster) {
	if t.home == c {
		t.refs++
	}
}

// forgetUnused drops the templates that no pod has any more. It runs each time
// the number has doubled, so it costs little per template.
func (c *Cluster) forgetUnused() {
	dead := map[*class]bool{}
	for key, t := range c.templates {
		if t.refs > 0 {
			continue
		}
		delete(c.templates, key)
		if x, ok := c.classes[t]; ok {
			dead[x] = true
			c.leaveCaches(x)
			delete(c.classes, t)
		}
	}
	c.counters.prune(dead)
	c.sweep = max(1024, 2*len(c.templates))
}

// validate names what is wrong with a node.
func (n *Node) validate() error {
	fail := func(err error) error { return fmt.Errorf("node %s: %w: %w", n.Name, ErrInvalid, err) }
	if n.Name == "" {
		return fmt.Errorf("%w: a node has no name", ErrInvalid)
	}
	for key, value := range n.Labels {
		if err := labels.ValidateKey(key); err != nil {
			return fail(err)
		}
		if err := labels.ValidateValue(value); err != nil {
			return fail(fmt.Errorf("label %q: %w", key, err))
		}
	}
	for i, t := range n.Taints {
		switch t.Effect {
		case NoSchedule, PreferNoSchedule, NoExecute:
		default:
			return fail(fmt.Errorf("taint %d: unknown effect %q (want NoSchedule, PreferNoSchedule or NoExecute)", i, t.Effect))
		}
	}
	for image, size := range n.Images {
		if err := validateAmount("size of image "+image, size); err != nil {
			return fail(err)
		}
	}
	if err := n.Allocatable.validate(); err != nil {
		return fail(err)
	}
	return nil
}
