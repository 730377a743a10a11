// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"time"

	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// AuditEvent says who asked for what, and what came of it.
type AuditEvent struct {
	Time        time.Time // of the request
	Took        time.Duration
	User        *authn.User // nil: nobody was found out
	Remote      string      // address of the client
	UserAgent   string
	Method, URL string
	Verb        string // "" where no resource is concerned
	Group       string
	Version     string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Code        int   // of the answer
	Bytes       int64 // of the answer
}

// finish records the request, when it has been answered.
func (x *exchange) finish() {
	took := time.Since(x.begun)
	x.server.metrics.request(x.verb, x.w.code, took)
	if x.server.opts.Audit == nil {
		return
	}
	x.server.opts.Audit(AuditEvent{
		Time: x.begun, Took: took, User: x.user, Remote: x.r.RemoteAddr, UserAgent: x.r.UserAgent(),
		Method: x.r.Method, URL: x.r.URL.RequestURI(), Verb: x.verb,
		Group: x.target.group, Version: x.target.version, Resource: x.target.resource, Subresource: x.target.sub,
		Namespace: x.target.namespace, Name: x.target.name, Code: x.w.code, Bytes: x.w.bytes,
	})
}
