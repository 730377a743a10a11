// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// What linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h call these.
const (
	netlinkNetfilter = 12
	subsysCtnetlink  = 1 << 8
	ctGet            = subsysCtnetlink | 1
	ctDelete         = subsysCtnetlink | 2

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaZone       = 18
	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv4Dst    = 2
	ctaIPv6Src    = 3
	ctaIPv6Dst    = 4
	ctaProtoNum   = 1
	ctaProtoSrc   = 2
	ctaProtoDst   = 3

	attrNested   = 1 << 15
	attrTypeMask = 1<<14 - 1
	protoUDP     = 17
)

// kernel is the kernel's table, reached by netlink in the network namespace of
// the calling thread.
type kernel struct{}

func (kernel) Flows(ctx context.Context, f netproxy.Family) ([]Flow, error) {
	var flows []Flow
	err := request(ctx, ctGet, syscall.NLM_F_DUMP, f, nil, func(payload []byte) error {
		fl, ok := parseFlow(payload)
		if ok && fl.Protocol == protoUDP {
			fl.Family = f
			flows = append(flows, fl)
		}
		return nil
	})
	if errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.ENOBUFS) {
		return nil, fmt.Errorf("the table changed while it was read: %w", err)
	}
	return flows, err
}

func (kernel) Delete(ctx context.Context, f Flow) error {
	var body []byte
	body = appendAttr(body, ctaTupleOrig|attrNested, f.tuple)
	if f.id != nil {
		body = appendAttr(body, ctaID, f.id)
	}
	if f.zone != nil {
		body = appendAttr(body, ctaZone, f.zone)
	}
	err := request(ctx, ctDelete, syscall.NLM_F_ACK, f.Family, body, func([]byte) error { return nil })
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// request sends one message and calls f with what follows the nfgenmsg header of
// each answer.
func request(ctx context.Context, typ uint16, flags int, fam netproxy.Family, body []byte, f func([]byte) error) error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkNetfilter)
	if err != nil {
		return permission(err)
	}
	defer syscall.Close(fd)
	// The kernel answers at once; the time-out is for looking at ctx.
	limit := syscall.NsecToTimeval(int64(time.Second))
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		return err
	}
	if err := syscall.Sendto(fd, message(typ, flags, fam, body), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return permission(err)
	}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		if err != nil {
			return permission(err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return err
		}
		for _, m := range msgs {
			done, err := answer(m, f)
			if done || err != nil {
				return permission(err)
			}
		}
	}
}

func answer(m syscall.NetlinkMessage, f func([]byte) error) (done bool, err error) {
	switch m.Header.Type {
	case syscall.NLMSG_DONE:
		return true, nil
	case syscall.NLMSG_ERROR:
		if len(m.Data) < 4 {
			return true, errors.New("netlink: short error message")
		}
		if errno := int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
			return true, syscall.Errno(-errno)
		}
		return true, nil // an acknowledgement
	}
	const nfgenmsg = 4
	if len(m.Data) < nfgenmsg {
		return true, errors.New("netlink: short message")
	}
	return false, f(m.Data[nfgenmsg:])
}

func permission(err error) error {
	if err == syscall.EPERM || err == syscall.EACCES {
		return fmt.Errorf("%w: %w", netproxy.ErrPermission, err)
	}
	return err
}

// message builds nlmsghdr, nfgenmsg and the body.
func message(typ uint16, flags int, fam netproxy.Family, body []byte) []byte {
	family := byte(syscall.AF_INET)
	if fam == netproxy.IPv6 {
		family = syscall.AF_INET6
	}
	b := make([]byte, 0, 20+len(body))
	b = binary.NativeEndian.AppendUint32(b, uint32(20+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, uint16(syscall.NLM_F_REQUEST|flags))
	b = append(b, 1, 0, 0, 0, 0, 0, 0, 0) // sequence and port; one request a socket
	b = append(b, family, 0, 0, 0)
	return append(b, body...)
}

func appendAttr(b []byte, typ uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// attrs yields the attributes in b; it stops at one that is cut off.
func attrs(b []byte) func(func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 4 {
			n := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) & attrTypeMask
			if n < 4 || n > len(b) || !yield(typ, b[4:n]) {
				return
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

// parseFlow reads the attributes of a flow. What it keeps is a copy.
func parseFlow(b []byte) (Flow, bool) {
	var fl Flow
	for typ, data := range attrs(b) {
		switch typ {
		case ctaTupleOrig:
			fl.tuple = append([]byte(nil), data...)
			fl.Src, fl.Dst, fl.Protocol = parseTuple(data)
		case ctaTupleReply:
			fl.ReplySrc, _, _ = parseTuple(data)
		case ctaID:
			fl.id = append([]byte(nil), data...)
		case ctaZone:
			fl.zone = append([]byte(nil), data...)
		}
	}
	return fl, fl.Dst.IsValid() && fl.ReplySrc.IsValid()
}

func parseTuple(b []byte) (src, dst netip.AddrPort, proto uint8) {
	var from, to netip.Addr
	var fromPort, toPort uint16
	for typ, data := range attrs(b) {
		for sub, v := range attrs(data) {
			switch {
			case typ == ctaTupleIP && (sub == ctaIPv4Src || sub == ctaIPv6Src):
				from, _ = netip.AddrFromSlice(v)
			case typ == ctaTupleIP && (sub == ctaIPv4Dst || sub == ctaIPv6Dst):
				to, _ = netip.AddrFromSlice(v)
			case typ == ctaTupleProto && sub == ctaProtoNum && len(v) > 0:
				proto = v[0]
			case typ == ctaTupleProto && sub == ctaProtoSrc && len(v) == 2:
				fromPort = binary.BigEndian.Uint16(v)
			case typ == ctaTupleProto && sub == ctaProtoDst && len(v) == 2:
				toPort = binary.BigEndian.Uint16(v)
			}
		}
	}
	return netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort), proto
}
