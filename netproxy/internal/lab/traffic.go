// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// Reply is what a pod says of a request.
type Reply struct {
	Pod    string
	Source netip.Addr // where the pod saw the request come from
}

// serve starts the pod's servers, which end with the test.
func (h *Host) serve() {
	var tcp net.Listener
	var udp net.PacketConn
	var err1, err2 error
	sctp4, err3 := h.listenSCTP(false)
	sctp6, err4 := h.listenSCTP(true)
	h.Do(func() {
		tcp, err1 = net.Listen("tcp", ":8080")
		udp, err2 = net.ListenPacket("udp", ":8080")
	})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		h.lab.t.Fatal(err)
	}
	var wg sync.WaitGroup
	h.lab.t.Cleanup(func() {
		tcp.Close()
		udp.Close()
		sctp4.Close()
		sctp6.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.answerTCP(c) })
		}
	})
	wg.Go(func() { h.answerUDP(udp) })
	wg.Go(func() { h.answerSCTP(sctp4) })
	wg.Go(func() { h.answerSCTP(sctp6) })
}

// answerTCP says who answers, and then echoes until the client has done.
func (h *Host) answerTCP(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, h.greeting(c.RemoteAddr())); err == nil {
		io.Copy(c, c)
	}
}

func (h *Host) answerUDP(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		_, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.WriteTo([]byte(h.greeting(from)), from)
		}
	}
}

func (h *Host) greeting(from net.Addr) string {
	a := netip.MustParseAddrPort(from.String()).Addr().Unmap()
	return fmt.Sprintf("%s %v\n", h.Name, a)
}

// Dial opens a connection from the host.
func (h *Host) Dial(p netproxy.Protocol, to netip.AddrPort) (net.Conn, error) {
	return h.DialFor(2*time.Second, p, to)
}

// DialFor is Dial with a time limit.
func (h *Host) DialFor(limit time.Duration, p netproxy.Protocol, to netip.AddrPort) (net.Conn, error) {
	var c net.Conn
	var err error
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	h.Do(func() {
		var d net.Dialer
		c, err = d.DialContext(ctx, p.String(), to.String())
	})
	return c, err
}

// Request makes one connection from the host and returns who answered.
func (h *Host) Request(p netproxy.Protocol, to netip.AddrPort) (Reply, error) {
	if p == netproxy.SCTP {
		return h.requestSCTP(to)
	}
	c, err := h.Dial(p, to)
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	return Ask(c)
}

// Ask sends on a fresh connection and reads who answered.
func Ask(c net.Conn) (Reply, error) {
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if c.RemoteAddr().Network() == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return Reply{}, err
		}
	}
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	if err != nil {
		return Reply{}, err
	}
	return parseReply(string(buf[:n]))
}

// Requests makes n connections and counts the replies.
func (h *Host) Requests(n int, p netproxy.Protocol, to netip.AddrPort) (map[Reply]int, error) {
	out := map[Reply]int{}
	for i := range n {
		r, err := h.Request(p, to)
		if err != nil {
			return out, fmt.Errorf("request %d from %s to %v/%v: %w", i, h.Name, to, p, err)
		}
		out[r]++
	}
	return out, nil
}

// SendUDP sends one packet from the host, and waits for nothing.
func (h *Host) SendUDP(from, to netip.AddrPort) error {
	var err error
	h.Do(func() {
		var c *net.UDPConn
		if c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to)); err != nil {
			return
		}
		_, err = c.Write([]byte("?"))
		c.Close()
	})
	return err
}
