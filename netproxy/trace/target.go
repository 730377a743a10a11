// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// action is what the arguments of a target mean.
type action interface {
	canonical(b []byte) []byte
}

// knownTarget says whether the name is that of a target whose effect the tracer
// knows. A chain can't have such a name.
func knownTarget(name string) bool {
	switch name {
	case "ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "LOG", "NFLOG", "TRACE":
		return true
	}
	return false
}

func parseAction(target string, t *tokens) (action, error) {
	switch target {
	case "MARK":
		return parseMarkAction(t)
	case "DNAT", "SNAT":
		return parseNATAction(target, t)
	case "REJECT":
		return parseRejectAction(t)
	case "REDIRECT":
		return parseRedirectAction(t)
	}
	return nil, nil
}

// markAction changes the mark: the bits of mask are cleared, then those of
// value are flipped.
type markAction struct{ value, mask uint32 }

func parseMarkAction(t *tokens) (action, error) {
	w, ok := t.option()
	if !ok {
		return nil, fmt.Errorf("want an option")
	}
	v, err := t.value(w)
	if err != nil {
		return nil, err
	}
	value, mask, err := parseMark(v)
	if err != nil {
		return nil, err
	}
	switch w {
	case "--set-xmark":
		return &markAction{value, mask}, nil
	case "--set-mark":
		return &markAction{value, mask | value}, nil
	case "--or-mark":
		return &markAction{value, value}, nil
	case "--and-mark":
		return &markAction{0, ^value}, nil
	case "--xor-mark":
		return &markAction{value, 0}, nil
	}
	return nil, fmt.Errorf("option %q is not known", w)
}

func (a *markAction) canonical(b []byte) []byte { return fmt.Appendf(b, "%#x/%#x", a.value, a.mask) }

// natAction rewrites an address: to one of a range, the first of which stands
// for all.
type natAction struct {
	addr  netip.Addr // invalid: unchanged
	port  uint16     // 0: unchanged
	flags string
}

func parseNATAction(target string, t *tokens) (action, error) {
	a := &natAction{}
	for {
		w, ok := t.option()
		if !ok {
			break
		}
		if w != "--to-destination" && w != "--to-source" {
			a.flags += " " + w
			continue
		}
		v, err := t.value(w)
		if err != nil {
			return nil, err
		}
		if err := a.parse(v); err != nil {
			return nil, err
		}
	}
	if !a.addr.IsValid() && a.port == 0 {
		return nil, fmt.Errorf("without --to-%s", map[string]string{"DNAT": "destination", "SNAT": "source"}[target])
	}
	return a, nil
}

// parse reads ADDR[-ADDR][:PORT[-PORT]], IPv6 addresses in brackets if there is
// a port.
func (a *natAction) parse(v string) error {
	bad := fmt.Errorf("address %q: want ADDR, ADDR:PORT or :PORT", v)
	host, port := v, ""
	if rest, ok := strings.CutPrefix(v, "["); ok {
		host, port, ok = strings.Cut(rest, "]")
		if !ok || (port != "" && port[0] != ':') {
			return bad
		}
		port = strings.TrimPrefix(port, ":")
	} else if strings.Count(v, ":") == 1 {
		host, port, _ = strings.Cut(v, ":")
	}
	host, _, _ = strings.Cut(host, "-")
	port, _, _ = strings.Cut(port, "-")
	var err error
	if host != "" {
		if a.addr, err = netip.ParseAddr(host); err != nil {
			return bad
		}
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return bad
		}
		a.port = uint16(n)
	}
	return nil
}

func (a *natAction) apply(to netip.AddrPort) netip.AddrPort {
	addr, port := to.Addr(), to.Port()
	if a.addr.IsValid() {
		addr = a.addr
	}
	if a.port != 0 {
		port = a.port
	}
	return netip.AddrPortFrom(addr, port)
}

func (a *natAction) canonical(b []byte) []byte {
	return fmt.Appendf(b, "%v:%d%s", a.addr, a.port, a.flags)
}

// rejectAction says which error the sender gets.
type rejectAction struct{ with string }

func parseRejectAction(t *tokens) (action, error) {
	a := &rejectAction{}
	for {
		w, ok := t.option()
		if !ok {
			return a, nil
		}
		if w != "--reject-with" {
			return nil, fmt.Errorf("option %q is not known", w)
		}
		v, err := t.value(w)
		if err != nil {
			return nil, err
		}
		if v != "icmp-port-unreachable" && v != "icmp6-port-unreachable" && v != "port-unreach" {
			a.with = v // else it is the default, which iptables-save writes out
		}
	}
}

func (a *rejectAction) canonical(b []byte) []byte { return append(b, a.with...) }

type redirectAction struct{ port uint16 }

func parseRedirectAction(t *tokens) (action, error) {
	a := &redirectAction{}
	for {
		w, ok := t.option()
		if !ok {
			return a, nil
		}
		if w != "--to-ports" && w != "--to-port" {
			continue
		}
		v, err := t.value(w)
		if err != nil {
			return nil, err
		}
		v, _, _ = strings.Cut(v, "-")
		if a.port, err = parsePort(v); err != nil {
			return nil, err
		}
	}
}

func (a *redirectAction) canonical(b []byte) []byte { return strconv.AppendUint(b, uint64(a.port), 10) }
