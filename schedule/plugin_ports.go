// SPDX-License-Identifier: Apache-2.0

package schedule

// NodePorts keeps pods off nodes where a host port that they want is taken.
type NodePorts struct{ nodeLocal }

// Name returns "NodePorts".
func (NodePorts) Name() string { return "NodePorts" }

var statusPorts = Reject("node(s) didn't have free ports for the requested pod ports")

// PreFilter leaves the filter out for pods without host ports.
func (NodePorts) PreFilter(c *Cycle) *Status {
	if len(c.class.t.ports) == 0 {
		return statusSkip
	}
	return nil
}

// Filter refuses nodes where a port is taken.
func (NodePorts) Filter(c *Cycle, n NodeInfo) *Status {
	b, i := c.table.at(n.row)
	if b.hasPorts>>i&1 == 0 {
		return nil
	}
	for _, p := range b.pods[i] {
		for _, have := range p.t.ports {
			for _, want := range c.class.t.ports {
				if have.conflicts(want) {
					return statusPorts
				}
			}
		}
	}
	return nil
}

// conflicts compares two ports in their normal form.
func (p HostPort) conflicts(o HostPort) bool {
	return p.Port == o.Port && p.Protocol == o.Protocol && (p.IP == o.IP || p.IP == anyIP || o.IP == anyIP)
}

const anyIP = "0.0.0.0"

func normalPorts(ports []HostPort) []HostPort {
	var normal []HostPort
	for _, p := range ports {
		if p.IP == "" || p.IP == "::" {
			p.IP = anyIP
		}
		if p.Protocol == "" {
			p.Protocol = "TCP"
		}
		normal = append(normal, p)
	}
	return normal
}
