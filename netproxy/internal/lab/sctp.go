// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"
)

// SCTP is spoken over raw sockets, because few kernels have sockets for it: one
// INIT and its INIT ACK (RFC 9260, section 3.3), which is all that connection
// tracking needs to see of an association, and all that a service's rules decide
// on. The INIT ACK's cookie says who answers.

const (
	sctpInit    = 1
	sctpInitAck = 2
	sctpCookie  = 7 // a parameter of INIT ACK
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sctpPacket is what the lab knows of a packet.
type sctpPacket struct {
	src, dst uint16
	tag      uint32 // the receiver's
	chunk    byte
	init     uint32 // the sender's tag
	cookie   string
}

func (p sctpPacket) marshal() []byte {
	cookie := []byte(p.cookie)
	for len(cookie)%4 != 0 {
		cookie = append(cookie, '\n')
	}
	b := make([]byte, 0, 64)
	b = binary.BigEndian.AppendUint16(b, p.src)
	b = binary.BigEndian.AppendUint16(b, p.dst)
	b = binary.BigEndian.AppendUint32(b, p.tag)
	b = append(b, 0, 0, 0, 0) // checksum
	length := 20
	if len(cookie) > 0 {
		length += 4 + len(cookie)
	}
	b = append(b, p.chunk, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = binary.BigEndian.AppendUint32(b, p.init)
	b = binary.BigEndian.AppendUint32(b, 1<<16) // receiver window
	b = append(b, 0, 1, 0, 1)                   // streams
	b = binary.BigEndian.AppendUint32(b, p.init)
	if len(cookie) > 0 {
		b = binary.BigEndian.AppendUint16(b, sctpCookie)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(cookie)))
		b = append(b, cookie...)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli))
	return b
}

// parseSCTP returns false for what is no INIT or INIT ACK with a right checksum.
func parseSCTP(b []byte) (p sctpPacket, ok bool) {
	if len(b) < 32 {
		return p, false
	}
	sum := binary.LittleEndian.Uint32(b[8:])
	copied := append([]byte(nil), b...)
	clear(copied[8:12])
	if crc32.Checksum(copied, castagnoli) != sum {
		return p, false
	}
	p = sctpPacket{
		src: binary.BigEndian.Uint16(b), dst: binary.BigEndian.Uint16(b[2:]), tag: binary.BigEndian.Uint32(b[4:]),
		chunk: b[12], init: binary.BigEndian.Uint32(b[16:]),
	}
	if len(b) > 36 {
		p.cookie = string(b[36:])
	}
	return p, p.chunk == sctpInit || p.chunk == sctpInitAck
}

// listenSCTP opens a raw socket of the family.
func (h *Host) listenSCTP(v6 bool) (c net.PacketConn, err error) {
	network := "ip4:132"
	if v6 {
		network = "ip6:132"
	}
	h.Do(func() { c, err = net.ListenPacket(network, "") })
	return c, err
}

// answerSCTP answers each INIT to port 8080 with who it is.
func (h *Host) answerSCTP(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		p, ok := parseSCTP(buf[:n])
		if err != nil || !ok || p.chunk != sctpInit || p.dst != 8080 {
			continue
		}
		addr := netip.MustParseAddr(from.String())
		reply := sctpPacket{
			src: p.dst, dst: p.src, tag: p.init, chunk: sctpInitAck, init: rand.Uint32(),
			cookie: h.greeting(net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, p.src))),
		}
		c.WriteTo(reply.marshal(), from)
	}
}

// requestSCTP sends an INIT and returns who answers.
func (h *Host) requestSCTP(to netip.AddrPort) (Reply, error) {
	c, err := h.listenSCTP(to.Addr().Is6())
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	init := sctpPacket{src: uint16(20000 + rand.IntN(20000)), dst: to.Port(), chunk: sctpInit, init: rand.Uint32()}
	if _, err := c.WriteTo(init.marshal(), &net.IPAddr{IP: to.Addr().AsSlice()}); err != nil {
		return Reply{}, err
	}
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return Reply{}, err
		}
		p, ok := parseSCTP(buf[:n])
		if !ok || p.chunk != sctpInitAck || p.dst != init.src {
			continue
		}
		if from.String() != to.Addr().String() || p.src != to.Port() || p.tag != init.init {
			return Reply{}, fmt.Errorf("an answer from %v port %d with the tag %#x, want %v and %#x", from, p.src, p.tag, to, init.init)
		}
		return parseReply(p.cookie)
	}
}

// parseReply reads a greeting.
func parseReply(text string) (Reply, error) {
	pod, source, _ := strings.Cut(strings.TrimSpace(text), " ")
	a, err := netip.ParseAddr(source)
	return Reply{pod, a}, err
}
