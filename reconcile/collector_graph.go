// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"maps"
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// gcGraph is who owns whom, and what is to be done about it: the collector's
// state without goroutines, clocks or stores. It is told of objects and kinds,
// says which objects to look at (take), and decides on each (decide).
//
// A node is an object by its UID. It is real while the object is there, virtual
// while all that is known of it is that somebody calls it his owner, and absent
// once it is sure that no such object is there. UIDs are never used twice, so
// absent is for ever, but for objects of a kind that was not registered. Nodes
// that are not real go with their last dependent, so that the graph is bounded by
// the objects.
//
// kinds are those all of whose objects are in the graph. A reference to another
// kind says nothing about its owner.
type gcGraph struct {
	nodes   map[string]*gcNode
	kinds   map[store.KindName]bool
	touched map[string]bool  // to be looked at
	open    map[*gcNode]bool // virtual, or orphaning and not settled: those that may be unsure
}

type gcState uint8

const (
	gcVirtual gcState = iota
	gcReal
	gcAbsent
)

type gcNode struct {
	gcObject
	state      gcState
	settled    bool             // all dependents of the time when it began to orphan them are here
	reported   bool             // its misplaced references have been
	dependents map[*gcNode]bool // real ones; nil: none
}

// gcObject is what the collector needs to know about an object.
type gcObject struct {
	uid     string
	kind    store.KindName
	key     store.Key
	version string
	owners  []gcOwner

	deleting   bool
	foreground bool // deleting, and waits for its dependents to go
	orphan     bool // deleting, and waits for its dependents to be released
}

// gcOwner is an owner reference.
type gcOwner struct {
	uid    string
	kind   store.KindName
	name   string
	blocks bool
}

func newGraph() *gcGraph {
	return &gcGraph{nodes: map[string]*gcNode{}, kinds: map[store.KindName]bool{}, touched: map[string]bool{}, open: map[*gcNode]bool{}}
}

// take returns the objects to look at since the last call, in an order of their
// own.
func (g *gcGraph) take() []string {
	out := slices.Sorted(maps.Keys(g.touched))
	clear(g.touched)
	return out
}

func (g *gcGraph) touch(n *gcNode) {
	if n.state == gcReal && (len(n.owners) > 0 || n.deleting) {
		g.touched[n.uid] = true
	}
}

// touchWaiting touches an owner of which a dependent came, went or changed: one
// that waits for its dependents may have waited for that.
func (g *gcGraph) touchWaiting(owner *gcNode) {
	if owner.deleting {
		g.touch(owner)
	}
}

func (g *gcGraph) touchDependents(n *gcNode) {
	for d := range n.dependents {
		g.touch(d)
	}
}

// set tells of an object as it is now.
func (g *gcGraph) set(o gcObject) {
	n := g.node(o.uid)
	news := n.state != gcReal || n.deleting != o.deleting || n.foreground != o.foreground || n.orphan != o.orphan
	old := n.owners
	n.settled = n.settled && o.orphan
	n.reported = n.reported && slices.Equal(old, o.owners)
	n.gcObject, n.state = o, gcReal
	g.mark(n)
	for _, r := range o.owners {
		if r.uid == "" {
			continue
		}
		owner := g.node(r.uid)
		if owner.dependents == nil {
			owner.dependents = map[*gcNode]bool{}
		}
		owner.dependents[n] = true
	}
	g.unlink(n, old)
	g.touch(n)
	for _, r := range o.owners {
		if r.uid != "" {
			g.touchWaiting(g.nodes[r.uid])
		}
	}
	if news {
		g.touchDependents(n)
	}
}

// remove tells that an object has gone.
func (g *gcGraph) remove(uid string) {
	if n := g.nodes[uid]; n != nil {
		g.unreal(n, gcAbsent)
	}
}

// unreal takes the object out of the graph, but for what its dependents need.
func (g *gcGraph) unreal(n *gcNode, state gcState) {
	old := n.owners
	n.gcObject, n.state, n.settled = gcObject{uid: n.uid}, state, false
	g.mark(n)
	g.unlink(n, old)
	g.touchDependents(n)
	g.forget(n)
}

// unlink takes n from the dependents of those owners that it has no more.
func (g *gcGraph) unlink(n *gcNode, old []gcOwner) {
	for _, r := range old {
		owner := g.nodes[r.uid]
		if owner == nil || slices.ContainsFunc(n.owners, func(o gcOwner) bool { return o.uid == r.uid }) {
			continue
		}
		delete(owner.dependents, n)
		g.touchWaiting(owner)
		g.forget(owner)
	}
}

// forget drops a node of which nothing needs to be known.
func (g *gcGraph) forget(n *gcNode) {
	if n.state != gcReal && len(n.dependents) == 0 {
		delete(g.nodes, n.uid)
		delete(g.open, n)
	}
}

// mark keeps the node among the open ones, or not, as its state says.
func (g *gcGraph) mark(n *gcNode) {
	if n.state == gcVirtual || n.orphan && !n.settled {
		g.open[n] = true
	} else {
		delete(g.open, n)
	}
}

func (g *gcGraph) node(uid string) *gcNode {
	n := g.nodes[uid]
	if n == nil {
		n = &gcNode{gcObject: gcObject{uid: uid}}
		g.nodes[uid] = n
		g.mark(n)
	}
	return n
}

// addKind tells that all objects of the kind are in the graph.
func (g *gcGraph) addKind(kind store.KindName) {
	if g.kinds[kind] {
		return
	}
	g.kinds[kind] = true
	for _, n := range g.nodes {
		if slices.ContainsFunc(n.owners, func(r gcOwner) bool { return r.kind == kind }) {
			g.touch(n)
		}
	}
}

// dropKind tells that nothing is known about the kind's objects any more.
func (g *gcGraph) dropKind(kind store.KindName) {
	delete(g.kinds, kind)
	for _, uid := range g.ofKind(kind) {
		g.unreal(g.nodes[uid], gcVirtual)
	}
}

// ofKind returns the real objects of the kind.
func (g *gcGraph) ofKind(kind store.KindName) []string {
	var uids []string
	for uid, n := range g.nodes {
		if n.state == gcReal && n.kind == kind {
			uids = append(uids, uid)
		}
	}
	return uids
}

// unsure returns those about whom nothing can be said before the graph has
// caught up with the store: owners that are not in the graph though their kind is,
// and objects that orphan their dependents.
func (g *gcGraph) unsure() []string {
	var uids []string
	for n := range g.open {
		if n.state == gcReal || g.isNamed(n) {
			uids = append(uids, n.uid)
		}
	}
	return uids
}

// isNamed reports whether a reference says that the owner is of a kind that is
// in the graph.
func (g *gcGraph) isNamed(n *gcNode) bool {
	for d := range n.dependents {
		if slices.ContainsFunc(d.owners, func(r gcOwner) bool { return r.uid == n.uid && g.kinds[r.kind] }) {
			return true
		}
	}
	return false
}

// settle tells that the graph has caught up with the store since these were
// unsure: owners that are still not in it are not there.
func (g *gcGraph) settle(uids []string) {
	for _, uid := range uids {
		n := g.nodes[uid]
		switch {
		case n == nil:
		case n.state == gcVirtual:
			n.state = gcAbsent
			g.mark(n)
			g.touchDependents(n)
		case n.orphan:
			n.settled = true
			g.mark(n)
			g.touch(n)
		}
	}
}

// gcVerb is what is to be done with an object.
type gcVerb uint8

const (
	gcNothing          gcVerb = iota
	gcDelete                  // no owner is left
	gcDeleteForeground        // its owners wait for it, and it has dependents itself
	gcDropOwners              // some owners are gone, and one is not
	gcRelease                 // deleted in the foreground, and nothing is left to wait for
	gcOrphan                  // its dependents are to live on without it
)

// gcAction is a decision about an object.
type gcAction struct {
	verb       gcVerb
	needsAll   bool // it is right only if the dependents of every kind are in the graph
	object     gcObject
	drop       []gcOwner  // gcDropOwners
	dependents []gcObject // gcOrphan: those that are known
	misplaced  []gcOwner  // references to owners that are not where they say; not reported before
}

// decide says what is to be done with an object now.
func (g *gcGraph) decide(uid string) gcAction {
	n := g.nodes[uid]
	if n == nil || n.state != gcReal {
		return gcAction{}
	}
	a := gcAction{object: n.gcObject}
	switch {
	case n.orphan && !n.settled:
	case n.orphan:
		a.verb = gcOrphan
		for d := range n.dependents {
			a.dependents = append(a.dependents, d.gcObject)
		}
	case n.foreground:
		if g.nothingLeft(n) {
			a.verb, a.needsAll = gcRelease, true
		}
	case !n.deleting && len(n.owners) > 0:
		g.decideByOwners(n, &a)
	}
	return a
}

func (g *gcGraph) decideByOwners(n *gcNode, a *gcAction) {
	var has [ownerStates]bool
	for _, r := range n.owners {
		state := g.ownerState(n, r)
		has[state] = true
		switch state {
		case ownerGone, ownerWaits:
			a.drop = append(a.drop, r)
		case ownerMisplaced:
			if !n.reported {
				a.misplaced = append(a.misplaced, r)
			}
		}
	}
	n.reported = n.reported || len(a.misplaced) > 0
	held := has[ownerHolds] || has[ownerUnknown] || has[ownerMisplaced]
	// Whether an owner's kind is only late, or whether there are dependents, makes
	// a difference here.
	a.needsAll = has[ownerUnknown] || has[ownerWaits]
	switch {
	case len(a.drop) == 0 || has[ownerUnsure]:
	case held:
		a.verb = gcDropOwners
	case has[ownerWaits] && len(n.dependents) > 0:
		a.verb = gcDeleteForeground
	default:
		a.verb = gcDelete
	}
}

// What a reference says about its owner.
type ownerState uint8

const (
	ownerHolds     ownerState = iota // it is there
	ownerGone                        // it is not there
	ownerWaits                       // it is being deleted in the foreground
	ownerMisplaced                   // it is there, but not in the place that the reference says
	ownerUnknown                     // nobody can tell: its kind is not in the graph
	ownerUnsure                      // it is not in the graph, though its kind is: see unsure
	ownerStates                      // how many there are
)

func (g *gcGraph) ownerState(n *gcNode, r gcOwner) ownerState {
	owner := g.nodes[r.uid]
	switch {
	case r.uid == "":
		return ownerMisplaced // it names nobody
	case owner.state == gcReal && !places(n, r, owner):
		return ownerMisplaced
	case !g.kinds[r.kind]:
		return ownerUnknown
	case owner.state == gcVirtual:
		return ownerUnsure
	case owner.state == gcAbsent:
		return ownerGone
	case owner.foreground && !owner.orphan: // what it orphans first need not go
		return ownerWaits
	}
	return ownerHolds
}

// places reports whether the reference of n says where the owner is: in n's
// namespace or in none, under that kind and name.
func places(n *gcNode, r gcOwner, owner *gcNode) bool {
	return owner.kind == r.kind && owner.key.Name == r.name &&
		(owner.key.Namespace == "" || owner.key.Namespace == n.key.Namespace)
}

// nothingLeft reports whether an object that is deleted in the foreground waits
// for nothing any more: it has no dependent that lives, and none that blocks it,
// or only those that wait for it themselves, in a circle, so that one has to be
// the first.
func (g *gcGraph) nothingLeft(n *gcNode) bool {
	blocks := map[*gcNode][]*gcNode{} // whom a node in reach blocks
	seen := map[*gcNode]bool{n: true}
	for todo := []*gcNode{n}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for d := range at.dependents {
			switch named, blocks := refersTo(d, at); {
			case d == at || !named:
				continue
			case !d.deleting:
				return false // what becomes of it is decided before its owner goes
			case !blocks:
				continue
			case !d.foreground:
				return false // it will go by itself
			}
			blocks[d] = append(blocks[d], at)
			if !seen[d] {
				seen[d] = true
				todo = append(todo, d)
			}
		}
	}
	return allReach(n, seen, blocks)
}

// allReach reports whether each node waits, directly or not, for n: whether all
// can be reached from it against the direction of waiting.
func allReach(n *gcNode, all map[*gcNode]bool, blocks map[*gcNode][]*gcNode) bool {
	reached := map[*gcNode]bool{n: true}
	for todo := []*gcNode{n}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, owner := range blocks[at] {
			if !reached[owner] {
				reached[owner] = true
				todo = append(todo, owner)
			}
		}
	}
	return len(reached) == len(all)
}

// refersTo reports whether d has a reference to the owner, in its place, and
// whether one blocks the owner's deletion.
func refersTo(d, owner *gcNode) (named, blocks bool) {
	for _, r := range d.owners {
		if r.uid == owner.uid && places(d, r, owner) {
			named, blocks = true, blocks || r.blocks
		}
	}
	return named, blocks
}
