// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// maxName is the longest namespace, service name and port name: a DNS label.
const maxName = 63

// checker collects the faults of one object.
type checker struct {
	object string
	errs   []error
}

func (c *checker) fault(field, format string, args ...any) {
	c.errs = append(c.errs, &FieldError{Object: c.object, Field: field, Reason: fmt.Sprintf(format, args...), Kind: ErrInvalid})
}

func (c *checker) err() error { return errors.Join(c.errs...) }

// name demands a name that is safe in a comment, a chain name, a file name and
// a shell, because rules are text that other programs read.
func (c *checker) name(field, s string) {
	switch {
	case s == "":
		c.fault(field, "is empty")
	case len(s) > maxName:
		c.fault(field, "has %d characters; at most %d are allowed", len(s), maxName)
	case !plain(s):
		c.fault(field, "%q: only letters, digits, '-', '_' and '.' are allowed, and a letter or digit at both ends", s)
	}
}

func plain(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9':
		case (b == '-' || b == '_' || b == '.') && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return true
}

func (c *checker) port(field string, p int) {
	if p < 1 || p > 65535 {
		c.fault(field, "%d: want 1 to 65535", p)
	}
}

// badAddr says why an address can't be the target of a packet through a
// service, or "".
func badAddr(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "no valid IP address"
	case a.Is4In6():
		return "an IPv4 address mapped into IPv6; give the IPv4 address"
	case a.Zone() != "":
		return "has a zone"
	case a.IsUnspecified():
		return "the unspecified address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsMulticast():
		return "a multicast address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	}
	return ""
}

func (c *checker) addr(field string, a netip.Addr) {
	if why := badAddr(a); why != "" {
		c.fault(field, "%s: %s", a, why)
	}
}

// Validate says what is wrong with the service by itself: each fault is a
// *FieldError, joined. Conflicts with other services are the Tracker's matter.
func (s *Service) Validate() error {
	c := &checker{object: "service " + s.ServiceName().String()}
	c.name("namespace", s.Namespace)
	c.name("name", s.Name)
	c.clusterIPs(s.ClusterIPs)
	for i, a := range s.ExternalIPs {
		c.addr(fmt.Sprintf("externalIPs[%d]", i), a)
	}
	for i, lb := range s.LoadBalancers {
		c.addr(fmt.Sprintf("loadBalancers[%d]", i), lb.Addr)
		if lb.Mode > ProxyMode {
			c.fault(fmt.Sprintf("loadBalancers[%d].mode", i), "%d: want VIP or ProxyMode", lb.Mode)
		}
	}
	for i, p := range s.SourceRanges {
		if !p.IsValid() || p.Addr().Is4In6() {
			c.fault(fmt.Sprintf("sourceRanges[%d]", i), "%s: no valid range of addresses", p)
		}
	}
	if a := s.Affinity; a != 0 && (a < time.Second || a > 24*time.Hour) {
		c.fault("affinity", "%v: want 0, or 1s to 24h", a)
	}
	if s.HealthCheckNodePort != 0 {
		c.port("healthCheckNodePort", s.HealthCheckNodePort)
	}
	if s.InternalPolicy > Local || s.ExternalPolicy > Local {
		c.fault("policy", "want Cluster or Local")
	}
	if s.Distribution > PreferSameNode {
		c.fault("distribution", "%d: want Anywhere, PreferSameZone or PreferSameNode", s.Distribution)
	}
	c.servicePorts(s)
	return c.err()
}

func (c *checker) clusterIPs(ips []netip.Addr) {
	var seen [2]bool
	for i, a := range ips {
		field := fmt.Sprintf("clusterIPs[%d]", i)
		c.addr(field, a)
		f := FamilyOf(a)
		if seen[f] {
			c.fault(field, "%s: a second %v address; at most one of each family is allowed", a, f)
		}
		seen[f] = true
	}
}

func (c *checker) servicePorts(s *Service) {
	if len(s.ClusterIPs) > 0 && len(s.Ports) == 0 {
		c.fault("ports", "is empty; a service with a cluster IP needs a port")
	}
	for i, p := range s.Ports {
		field := fmt.Sprintf("ports[%d]", i)
		if p.Name != "" || len(s.Ports) > 1 {
			c.name(field+".name", p.Name)
		}
		if p.Protocol > SCTP {
			c.fault(field+".protocol", "%v: want TCP, UDP or SCTP", p.Protocol)
		}
		c.port(field+".port", p.Port)
		if p.NodePort != 0 {
			c.port(field+".nodePort", p.NodePort)
			if p.NodePort == s.HealthCheckNodePort && p.Protocol == TCP {
				c.fault(field+".nodePort", "%d is the health check node port too", p.NodePort)
			}
		}
		for j, q := range s.Ports[:i] {
			switch {
			case p.Name == q.Name:
				c.fault(field+".name", "%q is the name of ports[%d] too", p.Name, j)
			case p.Protocol == q.Protocol && p.Port == q.Port:
				c.fault(field+".port", "%d/%v is ports[%d] too", p.Port, p.Protocol, j)
			case p.NodePort != 0 && p.Protocol == q.Protocol && p.NodePort == q.NodePort:
				c.fault(field+".nodePort", "%d/%v is the node port of ports[%d] too", p.NodePort, p.Protocol, j)
			}
		}
	}
}

// Validate says what is wrong with the slice: each fault is a *FieldError,
// joined. A Tracker leaves out only the endpoints and ports concerned.
func (s *EndpointSlice) Validate() error {
	c := &checker{object: "endpoint slice " + s.Namespace + "/" + s.Name}
	c.name("namespace", s.Namespace)
	if s.Name == "" {
		c.fault("name", "is empty")
	}
	c.name("service", s.Service)
	for i := range s.Ports {
		if why := s.Ports[i].fault(); why != "" {
			c.fault(fmt.Sprintf("ports[%d]", i), "%s", why)
		}
	}
	for i := range s.Endpoints {
		if why := s.Endpoints[i].fault(); why != "" {
			c.fault(fmt.Sprintf("endpoints[%d]", i), "of service %s: %s", s.Service, why)
		}
	}
	return c.err()
}

func (p *EndpointPort) fault() string {
	switch {
	case p.Port < 1 || p.Port > 65535:
		return fmt.Sprintf("port %d: want 1 to 65535", p.Port)
	case p.Protocol > SCTP:
		return fmt.Sprintf("%v: want TCP, UDP or SCTP", p.Protocol)
	}
	return ""
}

func (e *Endpoint) fault() string {
	if why := badAddr(e.Addr); why != "" {
		return fmt.Sprintf("address %s: %s", e.Addr, why)
	}
	if e.State > Terminating {
		return fmt.Sprintf("state %d: want Ready, NotReady, ServingTerminating or Terminating", e.State)
	}
	return ""
}
