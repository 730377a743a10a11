// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding"
	"encoding/json"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/slipway-dev/slipway/store"
)

// RefPrefix is where schemas stand in a document of OpenAPI v3.
const RefPrefix = "#/components/schemas/"

// Definitions collects the schemas of types, and of the types that those refer
// to. It is not safe for concurrent use.
type Definitions struct {
	schemas map[string]*spec.Schema
	types   map[reflect.Type]string // their names; a type that is being described has its already
}

// New returns an empty collection.
func New() *Definitions {
	return &Definitions{schemas: map[string]*spec.Schema{}, types: map[reflect.Type]string{}}
}

// Schemas returns the schemas by name.
func (d *Definitions) Schemas() map[string]*spec.Schema { return d.schemas }

// Kind describes the struct type of a kind and returns its schema's name.
// description replaces that of the type, unless it is "".
func (d *Definitions) Kind(t reflect.Type, gvk schema.GroupVersionKind, description string) string {
	name := d.define(t)
	s := d.schemas[name]
	if s.Properties == nil {
		s.Properties = map[string]spec.Schema{}
	}
	for field, text := range typeMetaDoc {
		if _, ok := s.Properties[field]; !ok {
			s.Properties[field] = *described(spec.StringProperty(), text)
		}
	}
	if description != "" {
		s.Description = description
	}
	addKind(s, gvk)
	return name
}

// List describes the list of a kind.
func (d *Definitions) List(item string, gvk schema.GroupVersionKind) string {
	name := item + "List"
	s := object("a list of objects of kind " + gvk.Kind)
	for field, text := range typeMetaDoc {
		s.Properties[field] = *described(spec.StringProperty(), text)
	}
	s.Properties["metadata"] = *d.reference(d.define(reflect.TypeFor[metav1.ListMeta]()), "Standard list metadata.")
	s.Properties["items"] = *described(spec.ArrayProperty(ref(item)), "The objects.")
	s.Required = []string{"items"}
	gvk.Kind += "List"
	addKind(s, gvk)
	d.schemas[name] = s
	return name
}

// typeMetaDoc describes the fields that every object has in its JSON form.
var typeMetaDoc = map[string]string{
	"apiVersion": "APIVersion defines the versioned schema of this representation of an object: the group and the version.",
	"kind":       "Kind names the REST resource that this object represents, in CamelCase. It can't be updated.",
}

const kindExtension = "x-kubernetes-group-version-kind"

// addKind says that a schema is that of a kind; it may be that of several.
func addKind(s *spec.Schema, gvk schema.GroupVersionKind) {
	entry := map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
	list, _ := s.Extensions[kindExtension].([]any)
	for _, have := range list {
		if reflect.DeepEqual(have, any(entry)) {
			return
		}
	}
	s.AddExtension(kindExtension, append(list, entry))
}

func object(description string) *spec.Schema {
	s := &spec.Schema{}
	s.Type = spec.StringOrArray{"object"}
	s.Description = description
	s.Properties = map[string]spec.Schema{}
	return s
}

func described(s *spec.Schema, text string) *spec.Schema {
	s.Description = text
	return s
}

func ref(name string) *spec.Schema { return spec.RefProperty(RefPrefix + name) }

// reference refers to a schema with words of its own, which a bare reference
// has no room for.
func (d *Definitions) reference(name, description string) *spec.Schema {
	if description == "" {
		return ref(name)
	}
	s := &spec.Schema{}
	s.Description = description
	s.AllOf = []spec.Schema{*ref(name)}
	return s
}

// modelNamer is what Kubernetes generates for its types.
type modelNamer interface{ OpenAPIModelName() string }

// Name returns the name of a type's schema.
func Name(t reflect.Type) string {
	if n, ok := reflect.Zero(t).Interface().(modelNamer); ok {
		return n.OpenAPIModelName()
	}
	host, rest, _ := strings.Cut(t.PkgPath(), "/")
	labels := strings.Split(host, ".")
	slices.Reverse(labels)
	parts := append(labels, strings.Split(rest, "/")...)
	return strings.Map(legal, strings.Join(append(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), t.Name()), "."))
}

// legal keeps what may stand in the name of a schema.
func legal(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '-', r == '_':
		return r
	}
	return '_'
}

// define describes a named struct type, once, and returns its schema's name.
func (d *Definitions) define(t reflect.Type) string {
	if t == reflect.TypeFor[store.Meta]() { // the same JSON, and better described
		t = reflect.TypeFor[metav1.ObjectMeta]()
	}
	if name, ok := d.types[t]; ok {
		return name
	}
	name := Name(t)
	for n := 2; d.schemas[name] != nil; n++ { // types that are local to functions share a path
		name = Name(t) + strings.Repeat("_", n-1)
	}
	d.types[t] = name
	s := object("")
	d.schemas[name] = s
	*s = *d.structure(t)
	return name
}

func (d *Definitions) structure(t reflect.Type) *spec.Schema {
	doc := docOf(t)
	s := object(doc[""])
	d.fields(s, t, doc)
	slices.Sort(s.Required)
	if atomicStructs[path.Base(t.PkgPath())+"."+t.Name()] && isKubernetes(t) {
		s.AddExtension("x-kubernetes-map-type", "atomic")
	}
	return s
}

func isKubernetes(t reflect.Type) bool { return strings.HasPrefix(t.PkgPath(), "k8s.io/") }

func docOf(t reflect.Type) map[string]string {
	if d, ok := reflect.Zero(t).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		return d.SwaggerDoc()
	}
	return nil
}

// fields adds the fields of a struct, and of those that it embeds.
func (d *Definitions) fields(s *spec.Schema, t reflect.Type, doc map[string]string) {
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		embedded := f.Type
		if embedded.Kind() == reflect.Pointer {
			embedded = embedded.Elem()
		}
		switch {
		case tag == "-" || !f.IsExported() && !f.Anonymous:
			continue
		case name == "" && f.Anonymous && embedded.Kind() == reflect.Struct:
			inner := docOf(embedded)
			if inner == nil {
				inner = doc
			}
			d.fields(s, embedded, inner)
			continue
		case name == "":
			name = f.Name
		}
		text := doc[name]
		if text == "" {
			text = f.Tag.Get("description")
		}
		property := d.property(f.Type, text)
		mergeRules(property, t, f, name)
		s.Properties[name] = *property
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero") || f.Type.Kind() == reflect.Pointer ||
			name == "metadata" || name == "status"
		if !optional {
			s.Required = append(s.Required, name)
		}
	}
}

// openAPITyped is how types with JSON of their own say what it is.
type openAPITyped interface {
	OpenAPISchemaType() []string
	OpenAPISchemaFormat() string
}

// property describes a field's type.
func (d *Definitions) property(t reflect.Type, text string) *spec.Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s := special(t); s != nil {
		return described(s, text)
	}
	switch t.Kind() {
	case reflect.Struct:
		if t.Name() != "" {
			return d.reference(d.define(t), text)
		}
		return described(d.structure(t), text)
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return described(spec.StrFmtProperty("byte"), text)
		}
		return described(spec.ArrayProperty(d.property(t.Elem(), "")), text)
	case reflect.Map:
		return described(spec.MapProperty(d.property(t.Elem(), "")), text)
	case reflect.Bool:
		return described(spec.BooleanProperty(), text)
	case reflect.String:
		return described(spec.StringProperty(), text)
	case reflect.Int64, reflect.Int, reflect.Uint64, reflect.Uint, reflect.Uint32:
		return described(spec.Int64Property(), text)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16:
		return described(spec.Int32Property(), text)
	case reflect.Float32, reflect.Float64:
		return described(spec.Float64Property(), text)
	}
	return described(anything(), text)
}

// anything is a value of which nothing is known.
func anything() *spec.Schema {
	s := &spec.Schema{}
	s.Type = spec.StringOrArray{"object"}
	s.AddExtension("x-kubernetes-preserve-unknown-fields", true)
	return s
}

// special describes types whose JSON is not that of their fields, or returns nil.
func special(t reflect.Type) *spec.Schema {
	if t == reflect.TypeFor[store.Time]() {
		return spec.DateTimeProperty()
	}
	if t == reflect.TypeFor[intstr.IntOrString]() {
		s := spec.StrFmtProperty("int-or-string")
		s.AddExtension("x-kubernetes-int-or-string", true)
		return s
	}
	p := reflect.New(t).Interface()
	if o, ok := p.(openAPITyped); ok && len(o.OpenAPISchemaType()) == 1 {
		s := &spec.Schema{}
		s.Type = o.OpenAPISchemaType()
		s.Format = o.OpenAPISchemaFormat()
		return s
	}
	if _, ok := p.(json.Marshaler); ok && t.Kind() == reflect.Struct && t.NumField() > 0 || t == reflect.TypeFor[json.RawMessage]() {
		if _, text := p.(encoding.TextMarshaler); text {
			return spec.StringProperty()
		}
		return anything()
	}
	if _, ok := p.(encoding.TextMarshaler); ok {
		return spec.StringProperty()
	}
	return nil
}

// Merge adds the schemas of another collection.
func (d *Definitions) Merge(other *Definitions) { maps.Copy(d.schemas, other.schemas) }
