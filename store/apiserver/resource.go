// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
)

// Resource says how the objects of a kind are served. Only Kind is required,
// with a name and a version.
type Resource[T store.Copier[T]] struct {
	// Kind describes the objects to the store. Its indexes are the field selectors
	// that clients may use. Its Validate hook may return a field.ErrorList (by
	// ToAggregate), or any error that wraps *field.Error: clients then read which
	// fields are wrong, in Kubernetes' form.
	Kind store.Kind[T]
	// Plural is the name in URLs. "": the kind's name in lower case, with an s.
	Plural string
	// Singular is another name that kubectl accepts. "": the kind's name in lower case.
	Singular string
	// ShortNames are abbreviations that kubectl accepts, such as "po".
	ShortNames []string
	// Categories are the groups of kinds that kubectl gets at once, such as "all".
	Categories []string
	// Columns are what kubectl prints, after the name. nil: the age.
	Columns []Column[T]
	// NoStatus serves no status subresource, although T has a field Status. Without
	// it, a write to the object leaves its status alone, and a write to
	// the status leaves the rest alone.
	NoStatus bool
	// KeepStatus stores the status that a create brings, in place of clearing it.
	KeepStatus bool
	// Scale serves a scale subresource; nil serves none.
	Scale *Scale[T]
	// Grace returns the grace period in seconds of a delete that asks for so many
	// (nil: for none in particular), for objects that linger. The kind then needs a
	// Keep hook that holds while DeletionGracePeriodSeconds is above 0. nil: deletes
	// are immediate.
	Grace func(object T, asked *int64) int64
	// Subresources are further subresources.
	Subresources []Subresource[T]
	// Verbs are those that are served; nil: all.
	Verbs []string
	// Description is the kind's, for kubectl explain. "": from the type's SwaggerDoc.
	Description string
}

// Column is what a table shows of each object.
type Column[T any] struct {
	Name string
	// Type and Format are OpenAPI's: "string", "integer", "number", "boolean",
	// "date". "": string.
	Type, Format string
	Description  string
	// Wide columns are shown by kubectl get -o wide only.
	Wide bool
	// Value is what the cell shows: a string, an integer or a bool. See [Age].
	Value func(T) any
}

// Scale is the number of replicas of an object, to be read and set apart from
// the rest.
type Scale[T any] struct {
	Replicas    func(T) int32        // wanted
	SetReplicas func(T, int32)       // wanted
	Status      func(T) int32        // that there are
	Selector    func(T) string       // of the replicas, as text; nil: none
	Validate    func(T, int32) error // nil: not negative
}

// Subresource is a further thing to do with an object, under a name of its own
// in the URL. Exactly one of Change and Serve is set.
type Subresource[T any] struct {
	Name string
	// Kind is that of the body and the answer. Zero: the object's.
	Kind schema.GroupVersionKind
	// Verbs that are served: get, create, update, patch, delete. nil: create.
	Verbs []string
	// Body returns a new value for the request's body to be decoded into, for
	// Change. nil: there is no body.
	Body func() any
	// Change changes a copy of the object and returns the answer; nil answers with
	// a Status that says so. It may run again on a newer object, and has no side
	// effects.
	Change func(ctx context.Context, object T, body any) (answer any, err error)
	// Serve answers the request itself, for all that is no change of an object:
	// logs, streams, tokens.
	Serve func(http.ResponseWriter, *Call)
	// Stream says that Serve may take as long as it likes: it waits for no turn and
	// has no limit of time.
	Stream bool
}

// resource is a Resource without its type parameter.
type resource struct {
	schema      *store.Schema
	gvk         schema.GroupVersionKind
	plural      string
	singular    string
	short       []string
	categories  []string
	verbs       []string
	columns     []column
	status      *statusField // nil: no status subresource
	keepStatus  bool
	scale       *scale
	grace       func(store.Object, *int64) int64
	subs        map[string]*subresource
	subNames    []string
	elem        reflect.Type // the struct; nil for what is no pointer to one
	untyped     bool         // an Unstructured
	description string
	new         func() store.Object
	defaults    func(store.Object)
	immutable   []store.Field[store.Object]
	managers    managers // of fields
}

type column struct {
	name, typ, format, description string
	priority                       int32
	value                          func(store.Object) any
}

type scale struct {
	replicas    func(store.Object) int32
	setReplicas func(store.Object, int32)
	status      func(store.Object) int32
	selector    func(store.Object) string
	validate    func(store.Object, int32) error
}

type subresource struct {
	name   string
	kind   schema.GroupVersionKind
	verbs  []string
	body   func() any
	change func(context.Context, store.Object, any) (any, error)
	serve  func(http.ResponseWriter, *Call)
	stream bool
}

func (r *resource) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.gvk.Group, Resource: r.plural}
}

func (r *resource) gvr() schema.GroupVersionResource {
	return r.gvk.GroupVersion().WithResource(r.plural)
}

func (r *resource) namespaced() bool { return r.schema.Scope == store.Namespaced }

// allVerbs are those of a resource that restricts none.
var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// Register makes a kind known to the server's store, unless it is, and serves
// it. It may be called while the server runs.
func Register[T store.Copier[T]](s *Server, r Resource[T]) error {
	res, err := r.erase()
	if err != nil {
		return fmt.Errorf("apiserver: register %s: %w", r.Kind.KindName(), err)
	}
	if err := s.add(res); err != nil {
		return fmt.Errorf("apiserver: register %s: %w", r.Kind.KindName(), err)
	}
	return nil
}

// Registration is a kind that is to be served: what the functions of package
// builtin return, so that kinds of different types fit into one list.
type Registration interface {
	Register(*Server) error
}

// Register implements [Registration].
func (r Resource[T]) Register(s *Server) error { return Register(s, r) }

// segment is what may stand in a URL in the place of a resource or subresource.
var segment = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)

func (r Resource[T]) erase() (*resource, error) {
	if r.Kind.Version == "" {
		return nil, store.Invalidf("the kind has no version: set Kind.Version, to v1 for example")
	}
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return nil, store.Invalidf("its objects are %s, want a pointer to a struct", t)
	}
	sch, err := r.Kind.Schema()
	if err != nil {
		return nil, err
	}
	out := &resource{
		schema:      sch,
		gvk:         schema.GroupVersionKind{Group: r.Kind.Group, Version: r.Kind.Version, Kind: r.Kind.Name},
		plural:      r.Plural,
		singular:    r.Singular,
		short:       r.ShortNames,
		categories:  r.Categories,
		verbs:       r.Verbs,
		keepStatus:  r.KeepStatus,
		elem:        t.Elem(),
		description: r.Description,
		defaults:    func(store.Object) {},
		subs:        map[string]*subresource{},
	}
	if out.plural == "" {
		out.plural = strings.ToLower(r.Kind.Name) + "s"
	}
	if out.singular == "" {
		out.singular = strings.ToLower(r.Kind.Name)
	}
	if out.verbs == nil {
		out.verbs = allVerbs
	}
	for _, name := range append([]string{out.plural, out.singular}, out.short...) {
		if !segment.MatchString(name) {
			return nil, store.Invalidf("name %q: want lower-case letters, digits and '-'", name)
		}
	}
	if r.Kind.Default != nil {
		out.defaults = func(o store.Object) { r.Kind.Default(o.(T)) }
	}
	if r.Grace != nil {
		out.grace = func(o store.Object, asked *int64) int64 { return r.Grace(o.(T), asked) }
	}
	for _, f := range r.Kind.Immutable {
		out.immutable = append(out.immutable, store.Field[store.Object]{Name: f.Name, Get: func(o store.Object) any { return f.Get(o.(T)) }})
	}
	_, out.untyped = any(*new(T)).(unstructuredObject)
	out.new = func() store.Object { return reflect.New(out.elem).Interface().(store.Object) }
	out.managers.res = out
	if !r.NoStatus {
		out.status = statusOf(out)
	}
	r.eraseColumns(out)
	return out, r.eraseSubresources(out)
}

func (r Resource[T]) eraseColumns(out *resource) {
	columns := r.Columns
	if columns == nil {
		columns = []Column[T]{Age[T]()}
	}
	for _, c := range columns {
		e := column{name: c.Name, typ: c.Type, format: c.Format, description: c.Description}
		if e.typ == "" {
			e.typ = "string"
		}
		if c.Wide {
			e.priority = 1
		}
		e.value = func(o store.Object) any { return c.Value(o.(T)) }
		out.columns = append(out.columns, e)
	}
}

func (r Resource[T]) eraseSubresources(out *resource) error {
	if sc := r.Scale; sc != nil {
		out.scale = &scale{
			replicas:    func(o store.Object) int32 { return sc.Replicas(o.(T)) },
			setReplicas: func(o store.Object, n int32) { sc.SetReplicas(o.(T), n) },
			status:      func(o store.Object) int32 { return sc.Status(o.(T)) },
			selector:    func(store.Object) string { return "" },
			validate:    func(store.Object, int32) error { return nil },
		}
		if sc.Selector != nil {
			out.scale.selector = func(o store.Object) string { return sc.Selector(o.(T)) }
		}
		if sc.Validate != nil {
			out.scale.validate = func(o store.Object, n int32) error { return sc.Validate(o.(T), n) }
		}
	}
	for _, sub := range r.Subresources {
		taken := sub.Name == "status" && out.status != nil || sub.Name == "scale" && out.scale != nil || out.subs[sub.Name] != nil
		switch {
		case !segment.MatchString(sub.Name):
			return store.Invalidf("subresource %q: want lower-case letters, digits and '-'", sub.Name)
		case taken:
			return store.Invalidf("subresource %q: there is one of that name", sub.Name)
		case (sub.Change == nil) == (sub.Serve == nil):
			return store.Invalidf("subresource %q: set one of Change and Serve", sub.Name)
		}
		e := &subresource{name: sub.Name, kind: sub.Kind, verbs: sub.Verbs, body: sub.Body, serve: sub.Serve, stream: sub.Stream}
		if e.kind.Empty() {
			e.kind = out.gvk
		}
		if e.verbs == nil {
			e.verbs = []string{"create"}
		}
		if sub.Change != nil {
			e.change = func(ctx context.Context, o store.Object, body any) (any, error) { return sub.Change(ctx, o.(T), body) }
		}
		out.subs[sub.Name] = e
		out.subNames = append(out.subNames, sub.Name)
	}
	slices.Sort(out.subNames)
	return nil
}
