// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

// Options configure a [Server]. The zero value serves everything to everyone:
// for tests, and behind gates of one's own.
type Options struct {
	// Authenticator finds out who asks; who is found out by none is refused. nil:
	// everyone is system:anonymous.
	Authenticator authn.Authenticator
	// Authorizer says who may do what. nil: everyone may do everything.
	Authorizer authz.Authorizer
	// Admission are the plugins, in the order in which they run.
	Admission []admission.Plugin
	// Issuer publishes its keys at /openid/v1/jwks; nil: nothing is there.
	Issuer *authn.Issuer
	Limits Limits
	// Audit is told of every request, when it is answered (and of a watch or
	// stream, when it ends). It is called by many goroutines at once. nil: nobody is.
	Audit func(AuditEvent)
	// Ready says why the server is not ready to serve, for /readyz; nil: it is, as
	// long as the store can be read.
	Ready func(context.Context) error
	// Handlers serve paths outside of the API, by pattern as in http.ServeMux.
	// Authorization has taken place.
	Handlers map[string]http.Handler
	// Version is what /version reports. Zero: the version of Kubernetes that this
	// package follows.
	Version Version
	// Encodings is how many bytes of encoded objects are kept, to be sent again.
	// 0: 64 MiB.
	Encodings int64
	// Bookmarks is how often a quiet watch reports progress to clients that want
	// it. 0: a minute.
	Bookmarks time.Duration
	// NoManagedFields keeps no account of who owns which field. Server-side apply
	// then does without conflicts, and removes nothing.
	NoManagedFields bool
	// Logger gets what no client is told, such as panics. nil discards it.
	Logger *slog.Logger
}

// Limits bound what a client can ask of the server. In each, 0 means the
// default, and a negative number that there is no bound.
type Limits struct {
	// Body is the size of a request's body in bytes: 3 MiB.
	Body int64
	// Depth is how deep JSON and YAML may nest: 256 levels.
	Depth int
	// URL is the length of the request's URL in bytes: 8 KiB.
	URL int
	// Time is how long a request may take that is no watch and no stream: a minute.
	Time time.Duration
	// Watch is how long a watch lasts that asks for no time: 30 to 60 minutes, at
	// random, for 30 minutes, so that clients do not all come back at once.
	Watch time.Duration
	// Write is how long a client may keep a watch from being written to it before
	// it is cut off: a minute.
	Write time.Duration
	// InFlight is how many requests are carried out at once: 400. More wait their
	// turn, the users taking turns, whatever the number of requests of each.
	InFlight int
	// Queue is how many requests of one user wait: 200. More are refused with 429
	// Too Many Requests.
	Queue int
}

func (l Limits) withDefaults() Limits {
	l.Body = bound(l.Body, 3<<20)
	l.Depth = bound(l.Depth, 256)
	l.URL = bound(l.URL, 8<<10)
	l.Time = bound(l.Time, time.Minute)
	l.Watch = bound(l.Watch, 30*time.Minute)
	l.Write = bound(l.Write, time.Minute)
	l.InFlight = bound(l.InFlight, 400)
	l.Queue = bound(l.Queue, 200)
	return l
}

func bound[N int | int64 | time.Duration](n, standard N) N {
	switch {
	case n == 0:
		return standard
	case n < 0:
		return 1 << 62 // no bound that anyone could reach
	}
	return n
}

// Server serves the kinds of a store. It is an http.Handler; [Server.Serve]
// adds a listener, TLS and an orderly end.
type Server struct {
	store  store.Store
	opts   Options
	limits Limits
	log    *slog.Logger
	start  time.Time

	mutators      []admission.Mutator
	validators    []admission.Validator
	transactional []admission.Transactional

	encodings *encodings
	flight    *flight
	metrics   metrics
	mux       *http.ServeMux // what is no resource

	mu       sync.Mutex // for changes of the registry
	registry atomic.Pointer[registry]

	drain    context.Context // ends when watches are to end
	endDrain func()
}

// New returns a server for the store's objects, which serves no kinds yet.
func New(st store.Store, opts Options) (*Server, error) {
	if st == nil {
		return nil, errors.New("apiserver: the store is nil")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Encodings == 0 {
		opts.Encodings = 64 << 20
	}
	if opts.Bookmarks == 0 {
		opts.Bookmarks = time.Minute
	}
	if opts.Authenticator == nil {
		opts.Authenticator = authn.Anonymous()
	}
	if opts.Authorizer == nil {
		opts.Authorizer = authz.AllowAll()
	}
	s := &Server{
		store: st, opts: opts, limits: opts.Limits.withDefaults(), log: opts.Logger, start: time.Now(),
		encodings: newEncodings(opts.Encodings),
	}
	s.drain, s.endDrain = context.WithCancel(context.Background())
	s.flight = newFlight(s.limits.InFlight, s.limits.Queue)
	for _, p := range opts.Admission {
		if err := s.plug(p); err != nil {
			return nil, err
		}
	}
	s.registry.Store(&registry{})
	s.mux = s.newMux()
	virtuals := s.reviews()
	if _, ok := st.(store.Transactor); ok {
		virtuals = append(virtuals, transactions())
	}
	for _, v := range virtuals {
		if err := s.addVirtual(v); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Server) plug(p admission.Plugin) error {
	m, mutates := p.(admission.Mutator)
	v, validates := p.(admission.Validator)
	t, within := p.(admission.Transactional)
	if mutates {
		s.mutators = append(s.mutators, m)
	}
	if validates {
		s.validators = append(s.validators, v)
	}
	if within {
		s.transactional = append(s.transactional, t)
	}
	if !mutates && !validates && !within {
		return fmt.Errorf("apiserver: admission plugin %T is no Mutator, no Validator and not Transactional", p)
	}
	return nil
}

// registry is what is served. It never changes: registering replaces it.
type registry struct {
	resources map[schema.GroupVersionResource]*resource
	byKind    map[store.KindName]*resource
	virtual   map[schema.GroupVersionResource]*virtual
	documents documents // discovery and OpenAPI, made when they are first asked for
}

func (g *registry) clone() *registry {
	c := &registry{resources: maps.Clone(g.resources), byKind: maps.Clone(g.byKind), virtual: maps.Clone(g.virtual)}
	if c.resources == nil {
		c.resources, c.byKind = map[schema.GroupVersionResource]*resource{}, map[store.KindName]*resource{}
		c.virtual = map[schema.GroupVersionResource]*virtual{}
	}
	return c
}

// add registers a kind with the store and serves it.
func (s *Server) add(r *resource) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.registry.Load().clone()
	if next.resources[r.gvr()] != nil || next.virtual[r.gvr()] != nil {
		return fmt.Errorf("%s is served already: %w", r.gvr(), store.ErrKindExists)
	}
	if next.byKind[r.schema.KindName] != nil {
		return fmt.Errorf("the kind is served already: %w", store.ErrKindExists)
	}
	if err := s.store.Register(r.schema); err != nil {
		return err
	}
	r.managers.off = s.opts.NoManagedFields
	next.resources[r.gvr()], next.byKind[r.schema.KindName] = r, r
	s.registry.Store(next)
	return nil
}

// Unregister stops serving a kind and takes it out of the store. Its objects
// stay there; its watches end.
func (s *Server) Unregister(kind store.KindName) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.registry.Load().clone()
	r := next.byKind[kind]
	if r == nil {
		return fmt.Errorf("apiserver: unregister %s: %w", kind, store.ErrUnknownKind)
	}
	delete(next.resources, r.gvr())
	delete(next.byKind, kind)
	s.registry.Store(next)
	return s.store.Unregister(r.schema)
}

// sorted returns what is served by group, version and name.
func (g *registry) sorted() []*resource {
	return slices.SortedFunc(maps.Values(g.resources), func(a, b *resource) int {
		return cmp.Or(cmp.Compare(a.gvk.Group, b.gvk.Group), cmp.Compare(a.gvk.Version, b.gvk.Version), cmp.Compare(a.plural, b.plural))
	})
}

// authorize refuses what the user may not do.
func (s *Server) authorize(ctx context.Context, a authz.Attributes) error {
	decision, reason, err := s.opts.Authorizer.Authorize(ctx, a)
	if decision == authz.Allow {
		return nil
	}
	if err != nil {
		s.log.Debug("apiserver: authorize", "user", a.User.Name, "verb", a.Verb, "resource", a.Resource, "error", err)
	}
	return forbidden(a, reason)
}

func forbidden(a authz.Attributes, reason string) error {
	name := a.User.Name
	if a.Resource == "" {
		//lint:ignore ST1005 as Kubernetes words it
		return apierrors.NewForbidden(schema.GroupResource{}, "", fmt.Errorf("User %q cannot %s path %q%s", name, a.Verb, a.Path, because(reason)))
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	where := " at the cluster scope"
	if a.Namespace != "" {
		where = fmt.Sprintf(" in the namespace %q", a.Namespace)
	}
	//lint:ignore ST1005 as Kubernetes words it
	err := fmt.Errorf("User %q cannot %s resource %q in API group %q%s%s", name, a.Verb, resource, a.Group, where, because(reason))
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, err)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// Drain ends the watches that are under way, cleanly, and refuses new ones, so
// that clients go elsewhere or come back: the first step of an orderly end.
func (s *Server) Drain() { s.endDrain() }

func (s *Server) draining() bool { return s.drain.Err() != nil }
