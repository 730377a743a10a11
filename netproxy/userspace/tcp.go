// SPDX-License-Identifier: Apache-2.0

package userspace

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// acceptTCP serves a listener until it is closed.
func (s *server) acceptTCP(l net.Listener, kind Kind) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, say: it may pass
			time.Sleep(50 * time.Millisecond)
			continue
		}
		s.proxy.wg.Go(func() { s.serveTCP(c.(*net.TCPConn), kind) })
	}
}

// serveTCP connects a client to an endpoint, and copies until both have done.
func (s *server) serveTCP(client *net.TCPConn, kind Kind) {
	s.proxy.keep(client)
	defer s.proxy.drop(client)
	backend := s.dialTCP(client, kind)
	if backend == nil {
		client.SetLinger(0) // the client gets a reset, as near to a refusal as it can be
		return
	}
	s.proxy.keep(backend)
	defer s.proxy.drop(backend)
	var wg sync.WaitGroup
	wg.Go(func() { pipe(backend, client) })
	pipe(client, backend)
	wg.Wait()
}

// dialTCP tries one endpoint after another.
func (s *server) dialTCP(client *net.TCPConn, kind Kind) *net.TCPConn {
	from := client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	var tried []netip.AddrPort
	for {
		to, ok := s.choose(kind, from, tried)
		if !ok {
			return nil
		}
		c, err := net.DialTimeout("tcp", to.String(), s.proxy.dialTimeout())
		if err == nil {
			return c.(*net.TCPConn)
		}
		tried = append(tried, to)
	}
}

// pipe copies one direction. An end is passed on as an end, so that one side may
// go on sending when the other has done; a failure ends both.
func pipe(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.SetLinger(0)
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}
