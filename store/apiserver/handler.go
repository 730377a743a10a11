// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

// exchange is one HTTP request and its answer.
type exchange struct {
	server *Server
	w      *response
	r      *http.Request
	user   *authn.User
	target target
	verb   string // "": no resource
	begun  time.Time
}

// ServeHTTP implements http.Handler. A panic is logged and answered with 500; it
// does not end the program.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{server: s, w: &response{ResponseWriter: w}, r: r, begun: time.Now()}
	defer x.finish()
	defer func() {
		if p := recover(); p != nil {
			x.panicked(p)
		}
	}()
	if err := x.serve(); err != nil {
		x.fail(err)
	}
}

func (x *exchange) panicked(p any) {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	x.server.log.Error("apiserver: panic", "method", x.r.Method, "path", x.r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if x.w.code != 0 {
		panic(http.ErrAbortHandler) // the answer has begun: the client must see that it is cut off
	}
	x.fail(apierrors.NewInternalError(fmt.Errorf("this request caused apiserver to panic. Look in the logs for details")))
}

// serve takes the request through the gates, up to the handler.
func (x *exchange) serve() error {
	s, r := x.server, x.r
	if len(r.URL.RequestURI()) > s.limits.URL {
		return &apierrors.StatusError{ErrStatus: status(http.StatusRequestURITooLong, metav1.StatusReasonBadRequest,
			fmt.Sprintf("the URL has more than %d bytes", s.limits.URL))}
	}
	x.w.Header().Set("Cache-Control", "no-cache, private")
	if err := x.authenticate(); err != nil {
		return err
	}
	t, isResource := parseTarget(r.URL.Path)
	if !isResource {
		return x.serveOther()
	}
	x.target = t
	query := r.URL.Query()
	x.verb = t.verb(r, isTrue(query.Get("watch")))
	if x.verb == "" {
		return methodNotAllowed()
	}
	if t.name == "" && (x.verb == "list" || x.verb == "watch" || x.verb == "deletecollection") {
		x.target.name = singleName(query.Get("fieldSelector")) // what is listed by name may be allowed by name
	}
	if err := x.authorize(x.target.attributes(x.verb)); err != nil {
		return err
	}
	x.target.name = t.name
	return x.bounded(x.verb == "watch" || s.streams(&t), x.serveResource)
}

// bounded runs a handler when it is the user's turn, within the time that a
// request may take, or without a bound where it is a stream.
func (x *exchange) bounded(stream bool, handler func() error) error {
	if stream {
		return handler()
	}
	ctx, cancel := context.WithTimeoutCause(x.r.Context(), x.server.limits.Time, errRequestTime)
	defer cancel()
	x.r = x.r.WithContext(ctx)
	if !x.user.In(authn.GroupMasters) {
		if err := x.server.flight.enter(ctx, x.user.Name); err != nil {
			return err
		}
		defer x.server.flight.leave()
	}
	return handler()
}

func (x *exchange) authenticate() error {
	u, err := x.server.opts.Authenticator.Authenticate(x.r)
	if err != nil || u == nil {
		x.server.log.Debug("apiserver: authenticate", "path", x.r.URL.Path, "error", err)
		return apierrors.NewUnauthorized("Unauthorized")
	}
	x.user = u
	return x.impersonate()
}

func (x *exchange) authorize(a authz.Attributes) error {
	a.User = x.user
	return x.server.authorize(x.r.Context(), a)
}

// serveOther serves what is no resource.
func (x *exchange) serveOther() error {
	path := x.r.URL.Path
	if !alwaysAllowed(path) {
		if err := x.authorize(authz.Attributes{Verb: strings.ToLower(x.r.Method), Path: path}); err != nil {
			return err
		}
	}
	if _, pattern := x.server.mux.Handler(x.r); pattern == "" {
		return pageNotFound()
	}
	return x.bounded(false, func() error {
		x.server.mux.ServeHTTP(x.w, x.r.WithContext(authn.NewContext(x.r.Context(), x.user)))
		return nil
	})
}

// alwaysAllowed: probes come without credentials.
func alwaysAllowed(path string) bool {
	return path == "/livez" || path == "/readyz" || path == "/healthz"
}

// resourceOf returns the registered resource of a target, or nil.
func (s *Server) resourceOf(t *target) *resource {
	return s.registry.Load().resources[schema.GroupVersionResource{Group: t.group, Version: t.version, Resource: t.resource}]
}

// streams reports whether the target is a subresource that answers for as long
// as it likes.
func (s *Server) streams(t *target) bool {
	res := s.resourceOf(t)
	return res != nil && res.subs[t.sub] != nil && res.subs[t.sub].stream
}

// serveResource finds the resource and the handler of the verb.
func (x *exchange) serveResource() error {
	s, t := x.server, &x.target
	res := s.resourceOf(t)
	if res == nil {
		v := s.registry.Load().virtual[schema.GroupVersionResource{Group: t.group, Version: t.version, Resource: t.resource}]
		if v == nil {
			return pageNotFound()
		}
		return x.review(v)
	}
	if t.resource == "namespaces" && t.group == "" {
		t.namespace = "" // set for the authorizer only
	}
	if res.namespaced() && t.namespace == "" && (t.name != "" || x.verb == "create") {
		return pageNotFound()
	}
	if !res.namespaced() && t.namespace != "" {
		return pageNotFound()
	}
	o, err := x.op(res)
	if err != nil {
		return err
	}
	if t.name != "" && x.verb == "watch" && t.sub == "" { // GET of one object with ?watch: of that object
		return x.watch(o)
	}
	err = x.dispatch(o)
	return o.status(err)
}

func (x *exchange) dispatch(o *op) error {
	switch o.sub {
	case "":
	case "status":
		if o.res.status != nil {
			return x.object(o)
		}
	case "scale":
		if o.res.scale != nil {
			return x.scale(o)
		}
	}
	if o.sub != "" {
		sub := o.res.subs[o.sub]
		if sub == nil {
			return pageNotFound()
		}
		return x.subresource(o, sub)
	}
	if !slices.Contains(o.res.verbs, x.verb) {
		return methodNotAllowed()
	}
	if o.key.Name != "" {
		return x.object(o)
	}
	switch x.verb {
	case "list":
		return x.list(o)
	case "watch":
		return x.watch(o)
	case "create":
		return x.create(o)
	case "deletecollection":
		return x.deleteCollection(o)
	}
	return methodNotAllowed()
}

// object serves the verbs on one object, or on its status.
func (x *exchange) object(o *op) error {
	switch x.verb {
	case "get":
		return x.get(o)
	case "update":
		return x.update(o)
	case "patch":
		return x.patch(o)
	case "delete":
		if o.sub == "" {
			return x.delete(o)
		}
	}
	return methodNotAllowed()
}

// op returns the request as what the rest of the server works on.
func (x *exchange) op(res *resource) (*op, error) {
	t, q := &x.target, x.r.URL.Query()
	o := &op{
		server: x.server, res: res, user: x.user, verb: x.verb, sub: t.sub,
		key: store.Key{Namespace: t.namespace, Name: t.name}, backend: direct{x.server.store},
		manager: managerName(q.Get("fieldManager"), x.r.UserAgent()),
		warn:    x.w.warn,
	}
	if x.verb == "get" || x.verb == "list" || x.verb == "watch" {
		return o, nil
	}
	if len(q.Get("fieldManager")) > 128 {
		return nil, apierrors.NewBadRequest("fieldManager: Too long: may not be more than 128 bytes")
	}
	dryRun := q["dryRun"]
	if errs := checkDryRun(dryRun); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "CreateOptions"}, "", errs)
	}
	o.dryRun = len(dryRun) > 0
	var err error
	o.validation, err = parseFieldValidation(q.Get("fieldValidation"))
	return o, err
}

func (o *op) decoder() *decoder {
	return &decoder{kind: o.res.gvk, validation: o.validation, depth: o.server.limits.Depth, warn: o.warn}
}

// fail answers with an error.
func (x *exchange) fail(err error) {
	if x.w.code != 0 { // the answer has begun
		if !errors.Is(err, context.Canceled) {
			x.server.log.Debug("apiserver: answer cut off", "path", x.r.URL.Path, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
	about := subject{resource: schema.GroupResource{Group: x.target.group, Resource: x.target.resource}, name: x.target.name, verb: x.verb}
	st := asStatus(err, about).status
	if st.Code == http.StatusInternalServerError {
		x.server.log.Error("apiserver: internal error", "method", x.r.Method, "path", x.r.URL.Path, "error", err)
	}
	if st.Details != nil && st.Details.RetryAfterSeconds > 0 {
		x.w.Header().Set("Retry-After", fmt.Sprint(st.Details.RetryAfterSeconds))
	}
	m, err := accepted(x.r, true)
	if err != nil {
		m = media{}
	}
	x.answer(int(st.Code), m.format, statusKind, &st)
}

var statusKind = gvk{Version: "v1", Kind: "Status"}

func status(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}
}

// answer writes a value that is not shared.
func (x *exchange) answer(code int, f format, kind gvk, v any) {
	data, err := encode(kind, v, f)
	if err != nil {
		x.server.log.Error("apiserver: encode", "kind", kind, "error", err)
		data, code, f = []byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":500}`), http.StatusInternalServerError, formatJSON
	}
	x.w.send(x.r, code, f.String(), data)
}

func isTrue(s string) bool { return s == "true" || s == "1" || s == "True" || s == "TRUE" }
