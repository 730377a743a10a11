// SPDX-License-Identifier: Apache-2.0

// Package healthcheck tells load balancers and supervisors how a service proxy
// is: at the health check node port of each service that has one, and at
// /healthz and /livez for the proxy as a whole.
//
//	health := &healthcheck.Health{}
//	server := &healthcheck.Server{Health: health}
//	proxy := &netproxy.Proxy{
//		Tracker:  tracker,
//		Backends: []netproxy.Backend{rules, server},
//		Hooks:    health.Hooks(2),
//	}
//	go http.ListenAndServe(":10256", health.Handler())
//	err := proxy.Run(ctx)
//	server.Cleanup(ctx)
package healthcheck
