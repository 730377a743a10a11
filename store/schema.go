// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/slipway-dev/slipway/store/internal/deep"
)

// Schema is a [Kind] without its type parameter: what an engine sees. Its
// functions take objects for which Is holds; those that call the user's hooks
// turn a panic into an error.
type Schema struct {
	KindName
	Version   string
	Scope     Scope
	Type      reflect.Type // of the objects
	Indexes   []SchemaIndex
	Accessors Accessors[Object]

	// Is reports whether the object is of the kind's Go type, and not nil.
	Is func(Object) bool
	// Copy returns a deep copy.
	Copy func(Object) Object
	// ValidateName checks a name of an object.
	ValidateName func(string) error
	// Prepare applies the defaults to obj and validates it against old, which is
	// nil on create, immutable fields included.
	Prepare func(old, obj Object) error
	// Equal reports whether two objects are the same in every respect.
	Equal func(a, b Object) bool
	// SameSpec reports whether the part that generation counts is the same.
	SameSpec func(a, b Object) bool
	// Size estimates the object's bytes.
	Size func(Object) int
	// Keep reports whether a deleted object stays without finalizers; nil: never.
	Keep func(Object) bool
	// Convert makes an object of the kind's type from one of another.
	Convert func(Object) (Object, error)

	DanglingOwners bool
}

// SchemaIndex is an [Index] without its type parameter. Exactly one of One and
// Many is set.
type SchemaIndex struct {
	Name string
	One  func(Object) string
	Many func(Object) []string
}

// Has reports whether the object has the value in the index.
func (x *SchemaIndex) Has(o Object, value string) bool {
	if x.One != nil {
		return x.One(o) == value
	}
	return slices.Contains(x.Many(o), value)
}

// APIVersion returns "group/version", or the version where there is no group:
// what owner references call it.
func (s *Schema) APIVersion() string {
	if s.Group == "" {
		return s.Version
	}
	return s.Group + "/" + s.Version
}

// Schema checks the kind and returns it without its type parameter.
func (k Kind[T]) Schema() (*Schema, error) {
	fail := func(err error) (*Schema, error) {
		return nil, &Error{Op: "register", Kind: k.KindName().String(), Err: err}
	}
	if err := ValidateName("kind's name", k.Name); err != nil {
		return fail(err)
	}
	if k.Group != "" {
		if err := DNSSubdomain(k.Group); err != nil {
			return fail(err)
		}
	}
	if k.Scope > Cluster {
		return fail(Invalidf("scope %d: want Namespaced or Cluster", k.Scope))
	}
	acc, err := k.Accessors.complete()
	if err != nil {
		return fail(err)
	}
	indexes, err := schemaIndexes(k.Indexes)
	if err != nil {
		return fail(err)
	}
	for i, f := range k.Immutable {
		if f.Get == nil {
			return fail(Invalidf("immutable field %d (%q) has no Get function", i, f.Name))
		}
	}
	sameSpec := specComparer[T]()
	if k.Spec != nil {
		sameSpec = func(a, b Object) bool { return deep.Equal(k.Spec(a.(T)), k.Spec(b.(T))) }
	}
	s := &Schema{
		KindName:  k.KindName(),
		Version:   k.Version,
		Scope:     k.Scope,
		Type:      reflect.TypeFor[T](),
		Indexes:   indexes,
		Accessors: schemaAccessors(acc),
		Is: func(o Object) bool {
			t, ok := o.(T)
			return ok && !isNil(t)
		},
		Copy:           func(o Object) Object { return o.(T).DeepCopy() },
		Prepare:        k.prepare,
		Equal:          func(a, b Object) bool { return deep.Equal(a, b) },
		SameSpec:       sameSpec,
		Size:           func(o Object) int { return deep.Size(o) },
		DanglingOwners: k.DanglingOwners,
	}
	if k.Equal != nil {
		s.Equal = func(a, b Object) bool { return k.Equal(a.(T), b.(T)) }
	}
	if k.Size != nil {
		s.Size = func(o Object) int { return k.Size(o.(T)) }
	}
	if k.ValidateName != nil {
		s.ValidateName = k.validateName
	}
	if k.Convert != nil {
		s.Convert = k.convert
	}
	if k.Keep != nil {
		s.Keep = func(o Object) bool { return k.Keep(o.(T)) }
	}
	return s, nil
}

func isNil[T any](t T) bool {
	v := reflect.ValueOf(t)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

func (k Kind[T]) prepare(old, obj Object) (err error) {
	defer recoverHook("the defaulting or validation hook", &err)
	o := obj.(T)
	if k.Default != nil {
		k.Default(o)
	}
	var before T
	if old != nil {
		before = old.(T)
		for _, f := range k.Immutable {
			if a, b := f.Get(before), f.Get(o); !deep.Equal(a, b) {
				return Invalidf("%s is immutable: it is %v and can't become %v", f.Name, a, b)
			}
		}
	}
	if k.Validate != nil {
		if err := k.Validate(before, o); err != nil {
			return asInvalid(err)
		}
	}
	for _, x := range k.Indexes { // a panic here must not happen in the commit
		if x.many != nil {
			x.many(o)
		} else {
			x.one(o)
		}
	}
	if k.Size != nil { // nor here
		k.Size(o)
	}
	if k.Keep != nil { // a lease that ends asks it under the commit mutex
		k.Keep(o)
	}
	return nil
}

func (k Kind[T]) validateName(name string) (err error) {
	defer recoverHook("the name validation hook", &err)
	if err := k.ValidateName(name); err != nil {
		return asInvalid(err)
	}
	return nil
}

func (k Kind[T]) convert(old Object) (o Object, err error) {
	defer recoverHook("the conversion hook", &err)
	t, err := k.Convert(old)
	if err != nil {
		return nil, asInvalid(err)
	}
	if isNil(t) {
		return nil, Invalidf("the conversion hook returned nil")
	}
	return t, nil
}

// recoverHook turns a panic of a user's function into an error.
func recoverHook(what string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %s: %v", ErrHookPanic, what, r)
	}
}

func schemaIndexes[T any](in []*Index[T]) ([]SchemaIndex, error) {
	out := make([]SchemaIndex, 0, len(in))
	for i, x := range in {
		switch {
		case x == nil || x.one == nil && x.many == nil:
			return nil, Invalidf("index %d has no function: make it with NewIndex or NewMultiIndex", i)
		case x.name == "" || x.name == FieldName || x.name == FieldNamespace:
			return nil, Invalidf("index %d: the name %q is empty or taken", i, x.name)
		case slices.ContainsFunc(out, func(s SchemaIndex) bool { return s.Name == x.name }):
			return nil, Invalidf("two indexes of the name %q", x.name)
		}
		if at := badFieldName(x.name); at >= 0 {
			return nil, Invalidf("index %d: the name %q has %q at position %d, which no field selector could say", i, x.name, x.name[at], at)
		}
		s := SchemaIndex{Name: x.name}
		if x.one != nil {
			s.One = func(o Object) string { return x.one(any(o).(T)) }
		} else {
			s.Many = func(o Object) []string { return x.many(any(o).(T)) }
		}
		out = append(out, s)
	}
	return out, nil
}

func schemaAccessors[T any](a Accessors[T]) Accessors[Object] {
	var out Accessors[Object]
	if a.UID != nil {
		out.UID = func(o Object) string { return a.UID(any(o).(T)) }
		out.SetUID = func(o Object, uid string) { a.SetUID(any(o).(T), uid) }
	}
	if a.CreationTime != nil {
		out.CreationTime = func(o Object) time.Time { return a.CreationTime(any(o).(T)) }
		out.SetCreationTime = func(o Object, t time.Time) { a.SetCreationTime(any(o).(T), t) }
	}
	if a.DeletionTime != nil {
		out.DeletionTime = func(o Object) time.Time { return a.DeletionTime(any(o).(T)) }
		out.SetDeletionTime = func(o Object, t time.Time) { a.SetDeletionTime(any(o).(T), t) }
	}
	if a.Owners != nil {
		out.Owners = func(o Object) []OwnerReference { return a.Owners(any(o).(T)) }
		out.SetOwners = func(o Object, refs []OwnerReference) { a.SetOwners(any(o).(T), refs) }
	}
	return out
}

// specComparer compares the part of T that generation counts: the field Spec if
// there is one, else every field but the metadata and Status.
func specComparer[T any]() func(a, b Object) bool {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return func(a, b Object) bool { return deep.Equal(a, b) }
	}
	t = t.Elem()
	var fields []int
	if spec, ok := t.FieldByName("Spec"); ok && len(spec.Index) == 1 {
		fields = spec.Index
	} else {
		for i := range t.NumField() {
			if f := t.Field(i); f.Name != "Status" && !isMetadata(f.Type) {
				fields = append(fields, i)
			}
		}
	}
	return func(a, b Object) bool {
		va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
		for _, i := range fields {
			if !deep.EqualValues(va.Field(i), vb.Field(i)) {
				return false
			}
		}
		return true
	}
}

// isMetadata reports whether a field's type is what gives an object its
// metadata (Meta, ObjectMeta) or its type's name (TypeMeta).
func isMetadata(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	if p.Implements(reflect.TypeFor[Object]()) {
		return true
	}
	_, typeMeta := p.MethodByName("GroupVersionKind")
	return typeMeta || t.Name() == "TypeMeta"
}
