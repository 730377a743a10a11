// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// Tracker turns a stream of service and endpoint slice events into the smallest
// set of route changes: what was changed and changed back does not appear, and
// what did not change is not looked at. Its methods may be called from any
// goroutine; it starts none.
//
// An event that is refused with an error changes nothing: the last good version
// of that service stays in effect, and no other service is concerned.
type Tracker struct {
	mu       sync.Mutex
	resolve  resolver
	services map[ServiceName]*tracked
	slices   map[sliceName]ServiceName // which service a slice is for
	claims   map[claim]*tracked
	waiting  map[ServiceName]*Service // refused for a conflict; tried again when claims are released
	dirty    []*tracked
	fresh    chan struct{} // holds a token while there may be changes to fetch
}

// tracked is what the Tracker knows under one service name. It exists as long
// as there is a service, a slice or a route of that name.
type tracked struct {
	name   ServiceName
	obj    *Service // nil: only slices are known
	slices []*EndpointSlice
	routes []*Route // as Changes said last
	dirty  bool     // it is in Tracker.dirty
}

type sliceName struct{ namespace, name string }

// claim is an address and port that only one service can have. Without an
// address it is a port of the node.
type claim struct {
	addr  netip.Addr
	port  uint16
	proto Protocol
}

func (c claim) String() string {
	if !c.addr.IsValid() {
		return fmt.Sprintf("node port %d/%v", c.port, c.proto)
	}
	return fmt.Sprintf("%v/%v", netip.AddrPortFrom(c.addr, c.port), c.proto)
}

// NewTracker returns an empty Tracker that selects endpoints for the node.
func NewTracker(node Node) *Tracker {
	return &Tracker{
		resolve:  resolver{node: node},
		services: map[ServiceName]*tracked{},
		slices:   map[sliceName]ServiceName{},
		claims:   map[claim]*tracked{},
		waiting:  map[ServiceName]*Service{},
		fresh:    make(chan struct{}, 1),
	}
}

// Fresh receives when there may be changes to fetch. It is for one consumer.
func (t *Tracker) Fresh() <-chan struct{} { return t.fresh }

// SetNode says that the node has changed: its zone, usually.
func (t *Tracker) SetNode(n Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.resolve.node == n {
		return
	}
	t.resolve.node = n
	for _, s := range t.services {
		t.touch(s)
	}
}

// SetService adds or replaces a service. The error is made of FieldErrors: of
// kind ErrInvalid, or of kind ErrConflict when another service holds one of its
// addresses or node ports. A service refused for a conflict takes effect by
// itself as soon as the holder lets go.
func (t *Tracker) SetService(s Service) error {
	if err := s.Validate(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, s.ServiceName())
	return t.setService(&s)
}

func (t *Tracker) setService(s *Service) error {
	name := s.ServiceName()
	for c := range s.claims {
		if holder := t.claims[c]; holder != nil && holder.name != name {
			t.waiting[name] = s
			return &FieldError{
				Object: "service " + name.String(), Field: "ports", Kind: ErrConflict,
				Reason: fmt.Sprintf("%v belongs to service %v", c, holder.name),
			}
		}
	}
	tr := t.tracked(name)
	released := t.release(tr)
	tr.obj = s
	for c := range s.claims {
		t.claims[c] = tr
	}
	t.touch(tr)
	if released {
		t.retry()
	}
	return nil
}

// DeleteService removes a service; one that is not known is no error.
func (t *Tracker) DeleteService(name ServiceName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, name)
	tr := t.services[name]
	if tr == nil || tr.obj == nil {
		return
	}
	released := t.release(tr)
	tr.obj = nil
	t.touch(tr)
	if released {
		t.retry()
	}
}

// SetEndpointSlice adds or replaces a slice. Endpoints and ports with a fault
// are left out, and the error names them; the others take effect. A slice whose
// service is not known yet waits for it (see Orphans).
func (t *Tracker) SetEndpointSlice(s EndpointSlice) error {
	err := s.Validate()
	name := ServiceName{s.Namespace, s.Service}
	t.mu.Lock()
	defer t.mu.Unlock()
	id := sliceName{s.Namespace, s.Name}
	if before, ok := t.slices[id]; ok && before != name {
		t.dropSlice(id)
	}
	t.slices[id] = name
	tr := t.tracked(name)
	if i := tr.slice(s.Name); i >= 0 {
		tr.slices[i] = &s
	} else {
		// In order of name, so that the order of events makes no difference.
		at, _ := slices.BinarySearchFunc(tr.slices, s.Name, func(s *EndpointSlice, name string) int { return cmp.Compare(s.Name, name) })
		tr.slices = slices.Insert(tr.slices, at, &s)
	}
	t.touch(tr)
	return err
}

// DeleteEndpointSlice removes a slice; one that is not known is no error.
func (t *Tracker) DeleteEndpointSlice(namespace, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropSlice(sliceName{namespace, name})
}

func (t *Tracker) dropSlice(id sliceName) {
	name, ok := t.slices[id]
	if !ok {
		return
	}
	delete(t.slices, id)
	tr := t.services[name]
	if i := tr.slice(id.name); i >= 0 {
		tr.slices = slices.Delete(tr.slices, i, i+1)
		t.touch(tr)
	}
}

// Orphans returns the names of services that have endpoints but are not known,
// in order.
func (t *Tracker) Orphans() []ServiceName {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []ServiceName
	for name, tr := range t.services {
		if tr.obj == nil && len(tr.slices) > 0 {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, compareNames)
	return out
}

// Changes returns what has changed since the last call, in order of name, and
// nil if nothing did. The work is proportional to the services concerned.
func (t *Tracker) Changes() []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.dirty) == 0 {
		return nil
	}
	dirty := t.dirty
	t.dirty = nil
	slices.SortFunc(dirty, func(a, b *tracked) int { return compareNames(a.name, b.name) })
	out := make([]Change, 0, len(dirty))
	for _, tr := range dirty {
		tr.dirty = false
		var now []*Route
		if tr.obj != nil {
			now = t.resolve.routes(make([]*Route, 0, len(tr.obj.ClusterIPs)*len(tr.obj.Ports)), tr.obj, tr.slices)
		}
		out = appendChanges(out, tr.routes, now)
		tr.routes = now
		if tr.obj == nil && len(tr.slices) == 0 {
			delete(t.services, tr.name)
		}
	}
	return out
}

// Routes returns every route as Changes said it last, in order of name.
func (t *Tracker) Routes() []*Route {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*Route
	for _, tr := range t.services {
		out = append(out, tr.routes...)
	}
	slices.SortFunc(out, CompareRoutes)
	return out
}

// CompareRoutes orders routes by namespace, service, port and family.
func CompareRoutes(a, b *Route) int {
	return cmp.Or(
		cmp.Compare(a.Name.Namespace, b.Name.Namespace),
		cmp.Compare(a.Name.Name, b.Name.Name),
		cmp.Compare(a.Name.Port, b.Name.Port),
		cmp.Compare(a.Family, b.Family))
}

func appendChanges(out []Change, before, now []*Route) []Change {
	for _, o := range before {
		if findRoute(now, o) == nil {
			out = append(out, Change{Old: o})
		}
	}
	for i, n := range now {
		o := findRoute(before, n)
		if o.Equal(n) {
			now[i] = o // let the copy go
			continue
		}
		out = append(out, Change{Old: o, New: n})
	}
	return out
}

func findRoute(in []*Route, like *Route) *Route {
	for _, r := range in {
		if r.Name.Port == like.Name.Port && r.Family == like.Family {
			return r
		}
	}
	return nil
}

func compareNames(a, b ServiceName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func (t *Tracker) tracked(name ServiceName) *tracked {
	tr := t.services[name]
	if tr == nil {
		tr = &tracked{name: name}
		t.services[name] = tr
	}
	return tr
}

func (tr *tracked) slice(name string) int {
	return slices.IndexFunc(tr.slices, func(s *EndpointSlice) bool { return s.Name == name })
}

func (t *Tracker) touch(tr *tracked) {
	if !tr.dirty {
		tr.dirty = true
		t.dirty = append(t.dirty, tr)
	}
	select {
	case t.fresh <- struct{}{}:
	default: // a token is there already
	}
}

// release gives up what the service holds, and says whether there was anything.
func (t *Tracker) release(tr *tracked) bool {
	if tr.obj == nil {
		return false
	}
	for c := range tr.obj.claims {
		delete(t.claims, c)
	}
	return true
}

// retry tries the waiting services again, in order of name.
func (t *Tracker) retry() {
	if len(t.waiting) == 0 {
		return
	}
	names := make([]ServiceName, 0, len(t.waiting))
	for n := range t.waiting {
		names = append(names, n)
	}
	slices.SortFunc(names, compareNames)
	for _, n := range names {
		if s := t.waiting[n]; s != nil {
			delete(t.waiting, n)
			// Its owner was told of the conflict when it was set; if there is
			// one still, setService puts it back to wait.
			_ = t.setService(s)
		}
	}
}

// claims yields what the service claims. A headless service claims nothing, as
// it gets no rules.
func (s *Service) claims(yield func(claim) bool) {
	if len(s.ClusterIPs) == 0 {
		return
	}
	if p := s.HealthCheckNodePort; p != 0 && !yield(claim{port: uint16(p)}) {
		return
	}
	for _, p := range s.Ports {
		c := claim{port: uint16(p.Port), proto: p.Protocol}
		for _, c.addr = range s.ClusterIPs {
			if !yield(c) {
				return
			}
		}
		for _, c.addr = range s.ExternalIPs {
			if !yield(c) {
				return
			}
		}
		for _, lb := range s.LoadBalancers {
			if c.addr = lb.Addr; lb.Mode == VIP && !yield(c) {
				return
			}
		}
		if p.NodePort != 0 && !yield(claim{port: uint16(p.NodePort), proto: p.Protocol}) {
			return
		}
	}
}
