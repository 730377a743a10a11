// SPDX-License-Identifier: Apache-2.0

package userspace

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// udpServer serves one UDP listener: a flow per client address and port.
type udpServer struct {
	*server
	kind Kind
	conn *net.UDPConn

	mu     sync.Mutex
	flows  map[netip.AddrPort]*flow
	closed bool
}

// flow is one client and its endpoint.
type flow struct {
	client netip.AddrPort
	to     netip.AddrPort
	conn   *net.UDPConn
}

// maxPacket is the largest UDP payload.
const maxPacket = 1<<16 - 1

// run takes packets from clients until the listener is closed.
func (u *udpServer) run() {
	buf := make([]byte, maxPacket)
	for {
		n, client, err := u.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an error that an earlier answer met
		}
		if f := u.flow(netip.AddrPortFrom(client.Addr().Unmap(), client.Port())); f != nil {
			f.conn.SetReadDeadline(time.Now().Add(u.proxy.udpTimeout()))
			f.conn.Write(buf[:n]) // a lost packet is the client's to send again
		}
	}
}

// flow returns the client's flow, a new one if need be; nil if no endpoint will
// have it.
func (u *udpServer) flow(client netip.AddrPort) *flow {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f := u.flows[client]; f != nil {
		return f
	}
	if u.closed {
		return nil
	}
	to, ok := u.choose(u.kind, client.Addr(), nil)
	if !ok {
		return nil
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil
	}
	f := &flow{client, to, c}
	u.flows[client] = f
	u.proxy.wg.Go(func() { u.answer(f) })
	return f
}

// answer takes packets from the endpoint to the client until the flow is idle
// for too long, or closed.
func (u *udpServer) answer(f *flow) {
	defer u.forget(f)
	buf := make([]byte, maxPacket)
	f.conn.SetReadDeadline(time.Now().Add(u.proxy.udpTimeout()))
	for {
		n, err := f.conn.Read(buf)
		if err != nil {
			// A refusal by the endpoint ends the flow too: the next packet chooses anew.
			return
		}
		f.conn.SetReadDeadline(time.Now().Add(u.proxy.udpTimeout()))
		u.conn.WriteToUDPAddrPort(buf[:n], f.client)
	}
}

func (u *udpServer) forget(f *flow) {
	f.conn.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.flows[f.client] == f {
		delete(u.flows, f.client)
	}
}

// dropStale ends the flows to endpoints that have gone.
func (u *udpServer) dropStale() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for client, f := range u.flows {
		if !u.leads(u.kind, client.Addr(), f.to) {
			f.conn.Close()
			delete(u.flows, client)
		}
	}
}

// close ends the listener and all flows: without the listener there is no way
// back for answers.
func (u *udpServer) close() {
	u.conn.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, f := range u.flows {
		f.conn.Close()
	}
	clear(u.flows)
}
