// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/internal/fieldset"
	"github.com/slipway-dev/slipway/store/apiserver/internal/openapi"
)

// managers keep account of who owns which fields of a kind's objects, for
// server-side apply. What is expensive is made when it is first needed.
type managers struct {
	res  *resource
	off  bool
	once sync.Once
	conv managedfields.TypeConverter
	err  error
	// fields writes the sets of objects that are created, without the general way's
	// conversions.
	fields *fieldset.Writer

	mu    sync.Mutex
	bySub map[string]*managedfields.FieldManager
}

// init makes the converter that knows how lists and maps of the type merge.
func (m *managers) init() error {
	m.once.Do(func() {
		if m.res.untyped {
			m.conv = managedfields.NewDeducedTypeConverter()
			return
		}
		d := openapi.New()
		name := d.Kind(m.res.elem, m.res.gvk, "")
		m.fields = fieldset.New(d, name, m.res.elem)
		m.conv, m.err = managedfields.NewTypeConverter(d.Schemas(), false)
	})
	return m.err
}

// of returns the manager for a subresource; "" is the object itself.
func (m *managers) of(sub string) (*managedfields.FieldManager, error) {
	if err := m.init(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.bySub[sub]; f != nil {
		return f, nil
	}
	gv := m.res.gvk.GroupVersion()
	f, err := managedfields.NewDefaultFieldManager(m.conv, oneVersion{}, oneVersion{}, oneVersion{}, m.res.gvk, gv, sub, nil)
	if err != nil {
		return nil, err
	}
	if m.bySub == nil {
		m.bySub = map[string]*managedfields.FieldManager{}
	}
	m.bySub[sub] = f
	return f, nil
}

// oneVersion is what a field manager wants to know of a scheme, for kinds that
// have one version: nothing is converted and nothing defaulted.
type oneVersion struct{}

func (oneVersion) Convert(in, _, _ any) error { return fmt.Errorf("%T has one version only", in) }

func (oneVersion) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}

func (oneVersion) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func (oneVersion) Default(runtime.Object) {}

func (oneVersion) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u, nil
}

// created records the creator as the owner of all that the object has.
func (m *managers) created(o *op, obj store.Object) {
	given := managedFields(obj)
	if m.off || given != nil && len(given) == 0 {
		setManagedFields(obj, nil)
		return
	}
	if o.verb == "apply" { // has its own account
		return
	}
	setManagedFields(obj, nil)
	if err := m.init(); err != nil || m.res.untyped {
		m.createdUntyped(o, obj)
		return
	}
	now := metav1.Now().Rfc3339Copy()
	setManagedFields(obj, []metav1.ManagedFieldsEntry{{
		Manager: o.manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: m.res.gvk.GroupVersion().String(),
		Time: &now, FieldsType: "FieldsV1", FieldsV1: fieldsV1(m.fields.Of(obj)), Subresource: o.subManager(),
	}})
}

// createdUntyped does the same for types that only a schema could tell of: an
// update from nothing.
func (m *managers) createdUntyped(o *op, obj store.Object) {
	entries, err := m.update(o, m.res.new(), obj)
	if err != nil {
		o.server.log.Debug("apiserver: managed fields", "kind", m.res.gvk, "object", o.key, "error", err)
		return
	}
	setManagedFields(obj, entries)
}

// fieldsV1 returns a set that shares the text.
func fieldsV1(text []byte) *metav1.FieldsV1 {
	//lint:ignore SA1019 NewFieldsV1 takes a string, and makes a copy of its own of what many objects share
	return &metav1.FieldsV1{Raw: text}
}

// subManager is the subresource under which fields are managed.
func (o *op) subManager() string {
	if o.sub == "status" || o.sub == "scale" {
		return o.sub
	}
	return ""
}

// updated records who owns what has changed. It reports whether nothing would
// change but the times at which managers did something; next is then not to be
// stored.
func (m *managers) updated(o *op, live, next store.Object) (same bool) {
	was, given := managedFields(live), managedFields(next)
	setManagedFields(next, was)
	if m.res.schema.Equal(live, next) {
		if given == nil || sameManagers(was, given) {
			return true
		}
	}
	setManagedFields(next, given)
	if m.off {
		setManagedFields(next, nil)
		return false
	}
	if o.verb == "apply" { // has its own account
		return false
	}
	entries, err := m.update(o, live, next)
	if err != nil { // of objects that break their own type's rules, such as keys that are twice in a list
		o.server.log.Debug("apiserver: managed fields", "kind", m.res.gvk, "object", o.key, "error", err)
		entries = was
	}
	setManagedFields(next, entries)
	return false
}

// sameManagers compares entries, except for their times.
func sameManagers(a, b []metav1.ManagedFieldsEntry) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.ManagedFieldsEntry) bool {
		x.Time, y.Time = nil, nil
		return semantic.DeepEqual(x, y)
	})
}

func (m *managers) update(o *op, live, next store.Object) ([]metav1.ManagedFieldsEntry, error) {
	f, err := m.of(o.subManager())
	if err != nil {
		return nil, err
	}
	before, err := m.res.toMap(live)
	if err != nil {
		return nil, err
	}
	after, err := m.res.toMap(next)
	if err != nil {
		return nil, err
	}
	out, err := f.Update(before, after, o.manager)
	if err != nil {
		return nil, err
	}
	return out.(metav1.Object).GetManagedFields(), nil
}

// apply merges a configuration into the live object, or one that is empty, as
// server-side apply does.
func (m *managers) apply(o *op, live, config *unstructured.Unstructured, force bool) (store.Object, error) {
	f, err := m.of(o.subManager())
	if err != nil {
		return nil, err
	}
	out, err := f.Apply(live, config, o.manager, force)
	if err != nil {
		return nil, err
	}
	return m.res.fromMap(out.(*unstructured.Unstructured))
}

// toMap returns the object as its JSON's map.
func (r *resource) toMap(o store.Object) (*unstructured.Unstructured, error) {
	if r.untyped {
		return &unstructured.Unstructured{Object: runtime.DeepCopyJSON(o.(unstructuredObject).UnstructuredContent())}, nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.gvk.Kind, store.KeyOf(o), err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(r.gvk)
	return u, nil
}

// fromMap returns the object that a map is the JSON of.
func (r *resource) fromMap(u *unstructured.Unstructured) (store.Object, error) {
	obj := r.new()
	if r.untyped {
		obj.(unstructuredObject).SetUnstructuredContent(u.Object)
		return obj, nil
	}
	if _, ok := obj.(hasObjectKind); ok {
		err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj)
		return obj, err
	}
	data, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	return obj, json.Unmarshal(data, obj)
}

// managerName returns the field manager of a request: the one that it names, or
// the program that sends it.
func managerName(given, userAgent string) string {
	name := given
	if name == "" {
		name, _, _ = strings.Cut(userAgent, "/")
	}
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, name)
	if len(name) > 128 {
		name = strings.ToValidUTF8(name[:128], "")
	}
	if name == "" {
		name = "unknown"
	}
	return name
}
