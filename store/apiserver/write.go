// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"github.com/slipway-dev/slipway/store"
)

// body decodes the request's body as an object of the resource.
func (x *exchange) body(o *op) (store.Object, error) {
	data, err := x.server.readBody(x.r)
	if err != nil {
		return nil, err
	}
	obj := o.res.new()
	if err := o.decoder().decode(contentType(x.r), data, obj); err != nil {
		return nil, err
	}
	return obj, nil
}

func (x *exchange) create(o *op) error {
	m, err := x.media(o.res)
	if err != nil {
		return err
	}
	obj, err := x.body(o)
	if err != nil {
		return err
	}
	out, err := o.create(x.r.Context(), obj)
	if err != nil {
		return err
	}
	return x.show(o, m, http.StatusCreated, out)
}

// update replaces an object. One that is not there is not created: Kubernetes
// allows that for few kinds, and clients do not rely on it.
func (x *exchange) update(o *op) error {
	m, err := x.media(o.res)
	if err != nil {
		return err
	}
	obj, err := x.body(o)
	if err != nil {
		return err
	}
	out, err := o.update(x.r.Context(), func(store.Object) (store.Object, error) {
		return o.res.schema.Copy(obj), nil // may run again
	})
	if err != nil {
		return err
	}
	return x.show(o, m, http.StatusOK, out)
}

func (x *exchange) delete(o *op) error {
	m, err := x.media(o.res)
	if err != nil {
		return err
	}
	opts, err := x.deleteOptions()
	if err != nil {
		return err
	}
	out, gone, err := o.delete(x.r.Context(), opts)
	if err != nil {
		return err
	}
	if !gone {
		return x.show(o, m, http.StatusOK, out)
	}
	details := &metav1.StatusDetails{Name: o.key.Name, Group: o.res.gvk.Group, Kind: o.res.plural}
	if uid := o.res.schema.Accessors.UID; uid != nil {
		details.UID = types.UID(uid(out))
	}
	x.answer(http.StatusOK, m.format, statusKind, &metav1.Status{Status: metav1.StatusSuccess, Details: details})
	return nil
}

func (x *exchange) deleteCollection(o *op) error {
	m, err := x.media(o.res)
	if err != nil {
		return err
	}
	list, err := listOptions(o, x.r.URL.Query())
	if err != nil {
		return err
	}
	opts, err := x.deleteOptions()
	if err != nil {
		return err
	}
	items, err := o.deleteCollection(x.r.Context(), list, opts)
	if err != nil {
		return err
	}
	revision, err := x.server.store.Revision(x.r.Context())
	if err != nil {
		return err
	}
	return x.showList(o, m, items, store.ListMeta{Revision: revision})
}

// deleteOptions come in the body, in the query, or not at all.
func (x *exchange) deleteOptions() (*metav1.DeleteOptions, error) {
	opts := &metav1.DeleteOptions{}
	data, err := x.server.readBody(x.r)
	if err != nil {
		return nil, err
	}
	if len(data) > 0 {
		d := &decoder{kind: gvk{Group: "", Version: "v1", Kind: "DeleteOptions"}, validation: validateIgnore, depth: x.server.limits.Depth}
		if err := d.deleteOptions(contentType(x.r), data, opts); err != nil {
			return nil, err
		}
		return opts, nil
	}
	q := x.r.URL.Query()
	if text := q.Get("gracePeriodSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("gracePeriodSeconds: %q is no number", text))
		}
		opts.GracePeriodSeconds = &n
	}
	if text := q.Get("propagationPolicy"); text != "" {
		opts.PropagationPolicy = new(metav1.DeletionPropagation(text))
	}
	if text := q.Get("orphanDependents"); text != "" {
		//lint:ignore SA1019 old clients use it
		opts.OrphanDependents = new(isTrue(text))
	}
	return opts, nil
}

// deleteOptions reads options whatever group they claim to be of: clients name
// that of the resource, meta.k8s.io, or none.
func (d *decoder) deleteOptions(contentType string, data []byte, into *metav1.DeleteOptions) error {
	switch contentType {
	case typeProtobuf:
		d.anyGroup = true
		return d.protobuf(data, into)
	case typeYAML:
		converted, err := d.yaml(data)
		if err != nil {
			return err
		}
		data = converted
	case typeJSON:
	default:
		return unsupportedMediaType(contentType, mediaTypes...)
	}
	if err := checkDepth(data, d.depth); err != nil {
		return d.unusable(err)
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, into); err != nil {
		return d.unusable(err)
	}
	if k := into.Kind; k != "" && k != d.kind.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf("decoded object cannot be converted to DeleteOptions: it is a %s", k))
	}
	return nil
}
