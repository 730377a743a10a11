// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/slipway-dev/slipway/netproxy"
)

// Flow is one tracked connection.
type Flow struct {
	Family   netproxy.Family
	Protocol uint8 // IANA number
	// Src and Dst are as the client sent them. ReplySrc is where the answer
	// comes from: the endpoint, if the destination was translated.
	Src, Dst, ReplySrc netip.AddrPort

	tuple []byte // CTA_TUPLE_ORIG as the kernel gave it
	zone  []byte // CTA_ZONE, if any
	id    []byte // CTA_ID: so that a new flow with the same tuple is spared
}

// Table is a connection tracking table. The zero Cleaner uses the kernel's.
type Table interface {
	// Flows returns all UDP flows of a family.
	Flows(ctx context.Context, f netproxy.Family) ([]Flow, error)
	// Delete removes a flow; one that has gone is no error.
	Delete(ctx context.Context, f Flow) error
}

// Cleaner deletes the UDP flows to services that lead where no endpoint is any
// more: when an endpoint or a service goes; when a service without endpoints,
// whose flows led nowhere, gets one; and, in a resync, those that were missed.
// It is a [netproxy.Backend], and belongs after the rules in the list: a flow
// deleted before them might come back.
type Cleaner struct {
	// Table is the table to clean. Nil means the kernel's, in the network
	// namespace of the calling thread.
	Table Table
	// Deleted is told of each flow that was deleted. Nil is allowed.
	Deleted func(Flow)

	routes  map[routeKey]*netproxy.Route
	pending map[frontend]netproxy.Family // frontends whose flows have not been looked at since they changed
}

var _ netproxy.Backend = (*Cleaner)(nil)

type routeKey struct {
	name   netproxy.PortName
	family netproxy.Family
}

// frontend is what clients send to. Without an address it is a node port.
type frontend struct {
	addr   netip.Addr
	port   uint16
	family netproxy.Family
}

// Sync deletes the flows that the changes made stale. It reads the table only if
// a UDP service has lost an endpoint, or got its first one.
func (c *Cleaner) Sync(ctx context.Context, changes []netproxy.Change) error {
	if c.routes == nil {
		c.routes, c.pending = map[routeKey]*netproxy.Route{}, map[frontend]netproxy.Family{}
	}
	for _, ch := range changes {
		r := ch.Route()
		key := routeKey{r.Name, r.Family}
		old := c.routes[key]
		delete(c.routes, key)
		if ch.New != nil && ch.New.Protocol == netproxy.UDP {
			c.routes[key] = ch.New
		}
		// What the cleaner saw counts, not what the tracker says: it may have
		// been started later.
		if lostEndpoint(old, c.routes[key]) {
			for f := range frontends(old) {
				c.pending[f] = r.Family
			}
			for f := range frontends(c.routes[key]) {
				c.pending[f] = r.Family
			}
		}
	}
	_, err := c.clean(ctx, c.pending)
	return err
}

// Resync looks at the flows of all services.
func (c *Cleaner) Resync(ctx context.Context) (int, error) {
	all := map[frontend]netproxy.Family{}
	for _, r := range c.routes {
		for f := range frontends(r) {
			all[f] = r.Family
		}
	}
	n, err := c.clean(ctx, all)
	if err == nil {
		clear(c.pending)
	}
	return n, err
}

// Cleanup does nothing: flows are not ours to delete.
func (c *Cleaner) Cleanup(context.Context) error { return nil }

// lostEndpoint says whether flows may have become stale between two states.
func lostEndpoint(old, now *netproxy.Route) bool {
	if old == nil {
		return now != nil && len(endpoints(now)) > 0 // the rules may be older than the cleaner
	}
	had, has := endpoints(old), endpoints(now)
	if len(had) == 0 && len(has) > 0 {
		return true
	}
	return slices.ContainsFunc(had, func(a netip.AddrPort) bool { return !slices.Contains(has, a) })
}

func endpoints(r *netproxy.Route) []netip.AddrPort {
	if r == nil {
		return nil
	}
	out := make([]netip.AddrPort, 0, len(r.Cluster)+len(r.Local))
	for _, d := range r.Cluster {
		out = append(out, d.Addr)
	}
	for _, d := range r.Local {
		out = append(out, d.Addr)
	}
	return out
}

// frontends yields what the route's clients send to.
func frontends(r *netproxy.Route) func(func(frontend) bool) {
	return func(yield func(frontend) bool) {
		if r == nil || !yield(frontend{r.ClusterIP, r.Port, r.Family}) {
			return
		}
		for _, list := range [...][]netip.Addr{r.ExternalIPs, r.LoadBalancers} {
			for _, a := range list {
				if !yield(frontend{a, r.Port, r.Family}) {
					return
				}
			}
		}
		if r.NodePort != 0 {
			yield(frontend{netip.Addr{}, r.NodePort, r.Family})
		}
	}
}

// clean deletes the stale flows to the frontends, and takes out of the map those
// that are done with.
func (c *Cleaner) clean(ctx context.Context, what map[frontend]netproxy.Family) (deleted int, err error) {
	if len(what) == 0 {
		return 0, nil
	}
	live := map[frontend]map[netip.AddrPort]bool{}
	for _, r := range c.routes {
		for f := range frontends(r) {
			if _, ok := what[f]; !ok {
				continue
			}
			live[f] = map[netip.AddrPort]bool{}
			for _, e := range endpoints(r) {
				live[f][e] = true
			}
		}
	}
	table := c.Table
	if table == nil {
		table = kernel{}
	}
	var errs []error
	for _, family := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
		n, err := c.cleanFamily(ctx, table, family, what, live)
		deleted += n
		if err != nil {
			errs = append(errs, fmt.Errorf("conntrack: %v flows: %w", family, err))
			continue
		}
		for f, of := range what {
			if of == family {
				delete(what, f)
			}
		}
	}
	return deleted, errors.Join(errs...)
}

func (c *Cleaner) cleanFamily(ctx context.Context, table Table, family netproxy.Family, what map[frontend]netproxy.Family, live map[frontend]map[netip.AddrPort]bool) (deleted int, err error) {
	any := false
	for _, f := range what {
		any = any || f == family
	}
	if !any {
		return 0, nil
	}
	flows, err := table.Flows(ctx, family)
	if err != nil {
		return 0, err
	}
	for _, fl := range flows {
		f := frontend{fl.Dst.Addr(), fl.Dst.Port(), family}
		if _, ok := what[f]; !ok {
			// A flow to a node port is one that the rules have translated: the
			// port alone may be somebody else's.
			f.addr = netip.Addr{}
			if _, ok := what[f]; !ok || fl.ReplySrc == fl.Dst {
				continue
			}
		}
		if live[f][fl.ReplySrc] {
			continue
		}
		if err := table.Delete(ctx, fl); err != nil {
			return deleted, err
		}
		deleted++
		if c.Deleted != nil {
			c.Deleted(fl)
		}
	}
	return deleted, nil
}
