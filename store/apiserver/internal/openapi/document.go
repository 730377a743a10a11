// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"reflect"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Resource is what a document says of one.
type Resource struct {
	Kind         schema.GroupVersionKind
	Plural       string
	Namespaced   bool
	Type         reflect.Type // of the objects, a struct; nil: any fields
	Verbs        []string
	Description  string
	Subresources []Subresource
}

// Subresource is what a document says of one.
type Subresource struct {
	Name  string
	Kind  schema.GroupVersionKind
	Type  reflect.Type // of its body; nil: the object's, or Scale
	Verbs []string
}

// define describes the resource's types and returns the names of their schemas.
func (d *Definitions) resource(r *Resource) (item, list string) {
	if r.Type != nil {
		item = d.Kind(r.Type, r.Kind, r.Description)
	} else {
		item = untypedName(r.Kind)
		s := anything()
		s.Description = r.Description
		addKind(s, r.Kind)
		d.schemas[item] = s
	}
	if slices.Contains(r.Verbs, "list") {
		list = d.List(item, r.Kind)
	}
	for _, s := range r.Subresources {
		switch {
		case s.Type != nil:
			d.Kind(s.Type, s.Kind, "")
		case s.Name == "scale":
			d.Kind(reflect.TypeFor[autoscalingv1.Scale](), s.Kind, "")
		}
	}
	return item, list
}

func untypedName(kind schema.GroupVersionKind) string {
	labels := strings.Split(kind.Group, ".")
	slices.Reverse(labels)
	return strings.Map(legal, strings.Join(append(labels, kind.Version, kind.Kind), "."))
}

// path returns the resource's paths: of the collection, and of one object.
func (r *Resource) path() (collection, object string) {
	base := "/apis/" + r.Kind.Group + "/" + r.Kind.Version
	if r.Kind.Group == "" {
		base = "/api/" + r.Kind.Version
	}
	if r.Namespaced {
		base += "/namespaces/{namespace}"
	}
	return base + "/" + r.Plural, base + "/" + r.Plural + "/{name}"
}

// operation is what both versions of OpenAPI say of a request, each in its way.
type operation struct {
	method, path string
	verb         string // as in x-kubernetes-action
	kind         schema.GroupVersionKind
	body, answer string // names of schemas; "": none
	query        []string
	named        bool // the path has a name
	namespaced   bool
	patch        bool
}

var (
	writeQuery = []string{"dryRun", "fieldManager", "fieldValidation", "pretty"}
	listQuery  = []string{"allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "pretty", "resourceVersion",
		"resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch"}
	deleteQuery = []string{"dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy", "pretty"}
)

// queryTypes are the types of the parameters that are no strings.
var queryTypes = map[string]string{
	"allowWatchBookmarks": "boolean", "limit": "integer", "sendInitialEvents": "boolean", "timeoutSeconds": "integer",
	"watch": "boolean", "gracePeriodSeconds": "integer", "orphanDependents": "boolean", "force": "boolean",
}

func (r *Resource) operations(item, list string) []operation {
	collection, object := r.path()
	var out []operation
	add := func(verb, method, path, action, body, answer string, query []string, named bool) {
		if slices.Contains(r.Verbs, verb) {
			out = append(out, operation{method: method, path: path, verb: action, kind: r.Kind, body: body, answer: answer, query: query,
				named: named, namespaced: r.Namespaced, patch: verb == "patch"})
		}
	}
	add("list", "get", collection, "list", "", list, listQuery, false)
	add("create", "post", collection, "post", item, item, writeQuery, false)
	add("deletecollection", "delete", collection, "deletecollection", "", list, append(slices.Clone(deleteQuery), "fieldSelector", "labelSelector"), false)
	add("get", "get", object, "get", "", item, []string{"pretty"}, true)
	add("update", "put", object, "put", item, item, writeQuery, true)
	add("patch", "patch", object, "patch", "", item, append(slices.Clone(writeQuery), "force"), true)
	add("delete", "delete", object, "delete", "", "", deleteQuery, true)
	return out
}

func (r *Resource) subOperations(d *Definitions, item string) []operation {
	_, object := r.path()
	methods := map[string]string{"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
	var out []operation
	for _, s := range r.Subresources {
		body := item
		switch {
		case s.Type != nil:
			body = d.types[s.Type]
		case s.Name == "scale":
			body = d.types[reflect.TypeFor[autoscalingv1.Scale]()]
		case s.Name != "status":
			body = ""
		}
		for _, verb := range s.Verbs {
			op := operation{method: methods[verb], path: object + "/" + s.Name, verb: methods[verb], kind: s.Kind, body: body, answer: body,
				query: writeQuery, named: true, namespaced: r.Namespaced, patch: verb == "patch"}
			if verb == "get" || verb == "delete" || verb == "patch" {
				op.body = ""
			}
			out = append(out, op)
		}
	}
	return out
}

// id is unique among the operations: clients are generated from it.
func (o *operation) id() string {
	var b strings.Builder
	b.WriteString(o.method)
	for part := range strings.SplitSeq(o.path, "/") {
		part = strings.Trim(part, "{}")
		for word := range strings.FieldsFuncSeq(part, func(r rune) bool { return r == '.' || r == '-' }) {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// describe returns the definitions of the resources and all operations on them.
func describe(resources []Resource) (*Definitions, []operation) {
	d := New()
	d.define(reflect.TypeFor[metav1.Status]())
	var ops []operation
	for i := range resources {
		r := &resources[i]
		item, list := d.resource(r)
		ops = append(ops, r.operations(item, list)...)
		ops = append(ops, r.subOperations(d, item)...)
	}
	return d, ops
}

func kindMap(k schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind}
}

const title = "slipway"

var patchMedia = []string{"application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"}

// V3 returns the document of one group version in OpenAPI v3.
func V3(resources []Resource) *spec3.OpenAPI {
	d, ops := describe(resources)
	doc := &spec3.OpenAPI{
		Version:    "3.0.0",
		Info:       &spec.Info{InfoProps: spec.InfoProps{Title: title, Version: "v1"}},
		Paths:      &spec3.Paths{Paths: map[string]*spec3.Path{}},
		Components: &spec3.Components{Schemas: d.Schemas()},
	}
	for i := range ops {
		o := &ops[i]
		p := doc.Paths.Paths[o.path]
		if p == nil {
			p = &spec3.Path{}
			p.Parameters = o.pathParameters()
			doc.Paths.Paths[o.path] = p
		}
		switch op := o.v3(); o.method {
		case "get":
			p.Get = op
		case "post":
			p.Post = op
		case "put":
			p.Put = op
		case "patch":
			p.Patch = op
		case "delete":
			p.Delete = op
		}
	}
	return doc
}

func (o *operation) pathParameters() []*spec3.Parameter {
	var out []*spec3.Parameter
	add := func(name string) {
		out = append(out, &spec3.Parameter{ParameterProps: spec3.ParameterProps{Name: name, In: "path", Required: true, Schema: spec.StringProperty()}})
	}
	if o.named {
		add("name")
	}
	if o.namespaced {
		add("namespace")
	}
	return out
}

func content(s *spec.Schema, types ...string) map[string]*spec3.MediaType {
	out := map[string]*spec3.MediaType{}
	for _, t := range types {
		out[t] = &spec3.MediaType{MediaTypeProps: spec3.MediaTypeProps{Schema: s}}
	}
	return out
}

func (o *operation) v3() *spec3.Operation {
	op := &spec3.Operation{OperationProps: spec3.OperationProps{OperationId: o.id(), Tags: []string{o.kind.Group}}}
	op.AddExtension("x-kubernetes-action", o.verb)
	op.AddExtension(kindExtension, kindMap(o.kind))
	for _, q := range o.query {
		p := &spec3.Parameter{ParameterProps: spec3.ParameterProps{Name: q, In: "query"}}
		p.Schema = &spec.Schema{}
		p.Schema.Type = spec.StringOrArray{queryType(q)}
		op.Parameters = append(op.Parameters, p)
	}
	switch {
	case o.patch:
		op.RequestBody = &spec3.RequestBody{RequestBodyProps: spec3.RequestBodyProps{Required: true, Content: content(object("a patch"), patchMedia...)}}
	case o.body != "":
		op.RequestBody = &spec3.RequestBody{RequestBodyProps: spec3.RequestBodyProps{Required: true,
			Content: content(ref(o.body), "application/json", "application/yaml", "application/vnd.kubernetes.protobuf")}}
	}
	ok := &spec3.Response{ResponseProps: spec3.ResponseProps{Description: "OK"}}
	if o.answer != "" {
		ok.Content = content(ref(o.answer), "application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
	}
	op.Responses = &spec3.Responses{ResponsesProps: spec3.ResponsesProps{StatusCodeResponses: map[int]*spec3.Response{200: ok}}}
	return op
}

func queryType(name string) string {
	if t := queryTypes[name]; t != "" {
		return t
	}
	return "string"
}

// V2 returns the document of everything in OpenAPI v2, for older clients.
func V2(resources []Resource) *spec.Swagger {
	d, ops := describe(resources)
	doc := &spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger:     "2.0",
		Info:        &spec.Info{InfoProps: spec.InfoProps{Title: title, Version: "v1"}},
		Paths:       &spec.Paths{Paths: map[string]spec.PathItem{}},
		Definitions: spec.Definitions{},
	}}
	for name, s := range d.Schemas() {
		doc.Definitions[name] = *downgrade(s)
	}
	for i := range ops {
		o := &ops[i]
		p, known := doc.Paths.Paths[o.path]
		if !known {
			for _, q := range o.pathParameters() {
				p.Parameters = append(p.Parameters, parameter(q.Name, "path", "string"))
			}
		}
		switch op := o.v2(); o.method {
		case "get":
			p.Get = op
		case "post":
			p.Post = op
		case "put":
			p.Put = op
		case "patch":
			p.Patch = op
		case "delete":
			p.Delete = op
		}
		doc.Paths.Paths[o.path] = p
	}
	return doc
}

func parameter(name, in, typ string) spec.Parameter {
	p := spec.Parameter{ParamProps: spec.ParamProps{Name: name, In: in, Required: in == "path"}}
	p.Type = typ
	return p
}

func (o *operation) v2() *spec.Operation {
	op := &spec.Operation{}
	op.ID, op.Tags = o.id(), []string{o.kind.Group}
	op.Consumes, op.Produces = []string{"application/json", "application/yaml"}, []string{"application/json", "application/yaml"}
	op.AddExtension("x-kubernetes-action", o.verb)
	op.AddExtension(kindExtension, kindMap(o.kind))
	for _, q := range o.query {
		op.Parameters = append(op.Parameters, parameter(q, "query", queryType(q)))
	}
	body := o.body
	if o.patch {
		op.Consumes = patchMedia
		op.Parameters = append(op.Parameters, spec.Parameter{ParamProps: spec.ParamProps{Name: "body", In: "body", Required: true, Schema: object("a patch")}})
	} else if body != "" {
		op.Parameters = append(op.Parameters, spec.Parameter{ParamProps: spec.ParamProps{Name: "body", In: "body", Required: true, Schema: downgrade(ref(body))}})
	}
	ok := spec.Response{ResponseProps: spec.ResponseProps{Description: "OK"}}
	if o.answer != "" {
		ok.Schema = downgrade(ref(o.answer))
	}
	op.Responses = &spec.Responses{ResponsesProps: spec.ResponsesProps{StatusCodeResponses: map[int]spec.Response{200: ok}}}
	return op
}

// downgrade writes a schema as v2 has it: references to another place, and with
// words beside them.
func downgrade(in *spec.Schema) *spec.Schema {
	out := *in
	if len(out.AllOf) == 1 {
		out.Ref, out.AllOf = out.AllOf[0].Ref, nil
	}
	if text := out.Ref.String(); text != "" {
		out.Ref = spec.MustCreateRef("#/definitions/" + strings.TrimPrefix(text, RefPrefix))
	}
	if in.Items != nil && in.Items.Schema != nil {
		out.Items = &spec.SchemaOrArray{Schema: downgrade(in.Items.Schema)}
	}
	if in.AdditionalProperties != nil && in.AdditionalProperties.Schema != nil {
		out.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: downgrade(in.AdditionalProperties.Schema)}
	}
	if in.Properties != nil {
		out.Properties = make(map[string]spec.Schema, len(in.Properties))
		for name, p := range in.Properties {
			out.Properties[name] = *downgrade(&p)
		}
	}
	return &out
}
