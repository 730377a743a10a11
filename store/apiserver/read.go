// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
)

// media returns how the client wants to be answered.
func (x *exchange) media(res *resource) (media, error) { return accepted(x.r, res.hasProtobuf()) }

func (r *resource) hasProtobuf() bool {
	_, ok := r.new().(marshaler)
	return ok
}

func (x *exchange) get(o *op) error {
	m, err := x.media(o.res)
	if err != nil {
		return err
	}
	at, err := readOptions(x.r.URL.Query())
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	if err := x.server.await(ctx, at.AtLeast); err != nil {
		return err
	}
	obj, err := x.server.store.Get(ctx, o.res.schema, o.key, at)
	if err != nil {
		return err
	}
	return x.show(o, m, 200, obj)
}

// readOptions say from which revision one object is read. exact is an extension:
// resourceVersionMatch=Exact reads the past.
func readOptions(q url.Values) (store.ReadOptions, error) {
	rev, err := parseVersion(q.Get("resourceVersion"))
	if err != nil {
		return store.ReadOptions{}, err
	}
	if q.Get("resourceVersionMatch") == string(metav1.ResourceVersionMatchExact) {
		return store.ReadOptions{Exact: rev}, nil
	}
	return store.ReadOptions{AtLeast: rev}, nil
}

func parseVersion(text string) (uint64, error) {
	rev, err := store.ParseRevision(text)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version %q: want a decimal number", text))
	}
	return rev, nil
}

// await waits a little for a revision that the store has not reached: a client
// may have read it from another server.
func (s *Server) await(ctx context.Context, revision uint64) error {
	for deadline := time.Now().Add(3 * time.Second); ; {
		if revision == 0 {
			return nil
		}
		have, err := s.store.Revision(ctx)
		if err != nil || have >= revision {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: asked for %d, current: %d", store.ErrFuture, revision, have)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// show answers with a stored object, in the shape that the client wants.
func (x *exchange) show(o *op, m media, code int, obj store.Object) error {
	switch m.as {
	case "Table":
		t, err := x.table(o, m, []store.Object{obj}, store.ListMeta{}, true)
		if err != nil {
			return err
		}
		t.ResourceVersion = obj.GetResourceVersion()
		x.answer(code, m.format, tableKind(m), t)
		return nil
	case "PartialObjectMetadata":
		x.answer(code, m.format, partialKind(m), &metav1.PartialObjectMetadata{ObjectMeta: *partial(o.res, obj)})
		return nil
	case "":
	default:
		return notAcceptable(x.r.Header.Get("Accept"))
	}
	if o.dryRun { // nobody else will want to see it
		x.answer(code, m.format, o.res.gvk, obj)
		return nil
	}
	data, err := x.server.encodings.of(o.res, obj, m.format)
	if err != nil {
		return err
	}
	x.w.send(x.r, code, m.format.String(), data)
	return nil
}

func partialKind(m media) gvk {
	return gvk{Group: "meta.k8s.io", Version: m.version, Kind: "PartialObjectMetadata"}
}

// listOptions reads the query of a list, or of a collection's deletion.
func listOptions(o *op, q url.Values) (opts store.ListOptions, err error) {
	opts.Namespace, opts.Continue = o.key.Namespace, q.Get("continue")
	if opts.Labels, opts.Fields, err = selectors(o.res, q); err != nil {
		return opts, err
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return opts, apierrors.NewBadRequest(fmt.Sprintf("limit: %q is no number", text))
		}
		opts.Limit = int(max(n, 0))
	}
	return opts, listVersion(&opts, q)
}

// listVersion says from which revision the list comes.
// See https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list
func listVersion(opts *store.ListOptions, q url.Values) error {
	text, match := q.Get("resourceVersion"), metav1.ResourceVersionMatch(q.Get("resourceVersionMatch"))
	bad := func(detail string) error {
		return apierrors.NewInvalid(gvk{Group: "meta.k8s.io", Kind: "ListOptions"}.GroupKind(), "",
			field.ErrorList{field.Forbidden(field.NewPath("resourceVersionMatch"), detail)})
	}
	switch {
	case match != "" && text == "":
		return bad("resourceVersionMatch is forbidden unless resourceVersion is provided")
	case match != "" && opts.Continue != "":
		return bad("resourceVersionMatch is forbidden when continue is provided")
	case match == metav1.ResourceVersionMatchExact && text == "0":
		return bad(`resourceVersionMatch "Exact" is forbidden for resourceVersion "0"`)
	case match != "" && match != metav1.ResourceVersionMatchExact && match != metav1.ResourceVersionMatchNotOlderThan:
		return apierrors.NewInvalid(gvk{Group: "meta.k8s.io", Kind: "ListOptions"}.GroupKind(), "", field.ErrorList{
			field.NotSupported(field.NewPath("resourceVersionMatch"), match, []metav1.ResourceVersionMatch{metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan, ""})})
	case opts.Continue != "" && text != "" && text != "0":
		return apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	rev, err := parseVersion(text)
	if err != nil || opts.Continue != "" {
		return err
	}
	if match == metav1.ResourceVersionMatchExact || match == "" && opts.Limit > 0 && rev > 0 {
		opts.Exact = rev
	} else {
		opts.AtLeast = rev
	}
	return nil
}

func selectors(res *resource, q url.Values) (l store.Selector, f store.FieldSelector, err error) {
	if l, err = store.ParseSelector(q.Get("labelSelector")); err != nil {
		return l, f, apierrors.NewBadRequest("unable to parse requirement: " + reason(err))
	}
	if f, err = store.ParseFieldSelector(q.Get("fieldSelector")); err != nil {
		return l, f, apierrors.NewBadRequest("invalid field selector: " + reason(err))
	}
	for _, c := range f {
		if !res.hasField(c.Name) {
			return l, f, apierrors.NewBadRequest(fmt.Sprintf("Unable to find %q that match label selector %q, field selector %q: field label not supported: %s",
				res.gvr().String(), q.Get("labelSelector"), q.Get("fieldSelector"), c.Name))
		}
	}
	return l, f, nil
}

// hasField reports whether the kind's objects can be selected by that field.
func (r *resource) hasField(name string) bool {
	if name == store.FieldName || name == store.FieldNamespace {
		return true
	}
	return slices.ContainsFunc(r.schema.Indexes, func(x store.SchemaIndex) bool { return x.Name == name })
}

// singleName returns the name that a field selector demands, or "".
func singleName(selector string) string {
	if selector == "" {
		return ""
	}
	f, err := store.ParseFieldSelector(selector)
	if err != nil {
		return ""
	}
	for _, c := range f {
		if c.Name == store.FieldName && !c.Not {
			return c.Value
		}
	}
	return ""
}

func (x *exchange) list(o *op) error {
	m, err := x.media(o.res)
	if err != nil {
		return err
	}
	opts, err := listOptions(o, x.r.URL.Query())
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	if err := x.server.await(ctx, max(opts.AtLeast, opts.Exact)); err != nil {
		return err
	}
	var items []store.Object
	meta, err := x.server.store.List(ctx, o.res.schema, opts, func(obj store.Object) bool {
		items = append(items, obj)
		return true
	})
	if err != nil {
		return tokenStatus(err, opts.Continue)
	}
	return x.showList(o, m, items, meta)
}

// tokenStatus says of a continue token that has expired what clients expect:
// that they can begin anew.
func tokenStatus(err error, token string) error {
	switch {
	case token == "":
		return err
	case errors.Is(err, store.ErrTooOld):
		return apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.")
	case errors.Is(err, store.ErrInvalid):
		return apierrors.NewBadRequest("continue key is not valid: " + reason(err))
	}
	return err
}

// listMeta is the metadata of a list as the API has it.
func listMeta(meta store.ListMeta) metav1.ListMeta {
	out := metav1.ListMeta{ResourceVersion: store.FormatRevision(meta.Revision), Continue: meta.Continue}
	if meta.Continue != "" && meta.Remaining > 0 {
		out.RemainingItemCount = new(int64(meta.Remaining))
	}
	return out
}

func (x *exchange) showList(o *op, m media, items []store.Object, meta store.ListMeta) error {
	switch m.as {
	case "Table":
		t, err := x.table(o, m, items, meta, true)
		if err != nil {
			return err
		}
		x.answer(200, m.format, tableKind(m), t)
		return nil
	case "PartialObjectMetadataList", "PartialObjectMetadata":
		list := &metav1.PartialObjectMetadataList{ListMeta: listMeta(meta), Items: make([]metav1.PartialObjectMetadata, len(items))}
		for i, obj := range items {
			list.Items[i] = metav1.PartialObjectMetadata{ObjectMeta: *partial(o.res, obj)}
			list.Items[i].SetGroupVersionKind(partialKind(m))
		}
		kind := partialKind(m)
		kind.Kind = "PartialObjectMetadataList"
		x.answer(200, m.format, kind, list)
		return nil
	}
	kind := o.res.gvk
	kind.Kind += "List"
	if m.format == formatProtobuf {
		data, err := protobufList(kind, listMeta(meta), items)
		if err != nil {
			return err
		}
		x.w.send(x.r, 200, m.format.String(), data)
		return nil
	}
	parts, err := x.jsonList(o.res, kind, meta, items)
	if err != nil {
		return err
	}
	if m.format == formatYAML {
		return x.yamlList(parts)
	}
	x.w.send(x.r, 200, typeJSON, parts...)
	return nil
}

// jsonList returns the text of a list in parts: those of the objects are shared.
func (x *exchange) jsonList(res *resource, kind gvk, meta store.ListMeta, items []store.Object) ([][]byte, error) {
	head, err := json.Marshal(listMeta(meta))
	if err != nil {
		return nil, err
	}
	begin := append(appendKind(nil, kind), `,"metadata":`...)
	begin = append(append(begin, head...), `,"items":[`...)
	parts := make([][]byte, 0, 2*len(items)+2)
	parts = append(parts, begin)
	for i, obj := range items {
		data, err := x.server.encodings.of(res, obj, formatJSON)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			parts = append(parts, comma)
		}
		parts = append(parts, data)
	}
	return append(parts, []byte("]}\n")), nil
}

var comma = []byte(",")
