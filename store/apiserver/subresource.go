// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/http"
	"slices"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// Call is a request to a subresource that serves itself.
type Call struct {
	Request *http.Request
	User    *authn.User
	Key     store.Key // of the object
	Verb    string
	// Rest is what the path has after the subresource.
	Rest string
	// Object is the object, which is shared and must not be changed.
	Object store.Object
	// DryRun: nothing is to be changed.
	DryRun bool

	x *exchange
	o *op
}

// Decode reads the request's body, whatever its media type, as an object of the
// subresource's kind.
func (c *Call) Decode(into any) error {
	data, err := c.x.server.readBody(c.Request)
	if err != nil {
		return err
	}
	d := c.o.decoder()
	d.kind = c.o.res.subs[c.o.sub].kind
	return d.decode(contentType(c.Request), data, into)
}

// Answer writes an object of the subresource's kind.
func (c *Call) Answer(code int, object any) error {
	_, protobuf := object.(marshaler)
	m, err := accepted(c.Request, protobuf)
	if err != nil {
		return err
	}
	c.x.answer(code, m.format, c.o.res.subs[c.o.sub].kind, object)
	return nil
}

// Succeed answers that it is done, with no more to say.
func (c *Call) Succeed(code int) {
	c.x.answer(code, formatJSON, statusKind, &metav1.Status{Status: metav1.StatusSuccess, Code: int32(code)})
}

// Fail answers with an error, as a Status.
func (c *Call) Fail(err error) { c.x.fail(c.o.status(err)) }

// Delete deletes the object for the user, with admission: for eviction, say. The
// user's right to the subresource is the right to that.
func (c *Call) Delete(opts *metav1.DeleteOptions) error {
	o := *c.o
	o.verb, o.sub = "delete", ""
	o.dryRun = o.dryRun || c.DryRun
	_, _, err := o.delete(c.Request.Context(), opts)
	return o.status(err)
}

// subresource serves one that was registered.
func (x *exchange) subresource(o *op, sub *subresource) error {
	if !slices.Contains(sub.verbs, x.verb) {
		return methodNotAllowed()
	}
	ctx := x.r.Context()
	if sub.change != nil {
		return x.changeSub(o, sub)
	}
	obj, err := x.server.store.Get(ctx, o.res.schema, o.key, store.ReadOptions{})
	if err != nil {
		return err
	}
	if x.verb == "create" || x.verb == "get" {
		r := o.request(ctx, admission.Connect, obj, nil)
		if err := o.validate(ctx, r); err != nil {
			return err
		}
	}
	sub.serve(x.w, &Call{Request: x.r, User: x.user, Key: o.key, Verb: x.verb, Rest: x.target.rest, Object: obj, DryRun: o.dryRun, x: x, o: o})
	return nil
}

// changeSub serves a subresource that changes the object.
func (x *exchange) changeSub(o *op, sub *subresource) error {
	ctx := x.r.Context()
	var body any
	if sub.body != nil {
		data, err := x.server.readBody(x.r)
		if err != nil {
			return err
		}
		body = sub.body()
		d := o.decoder()
		d.kind = sub.kind
		if err := d.decode(contentType(x.r), data, body); err != nil {
			return err
		}
	}
	var answer any
	inner := *o
	inner.whole, inner.derived = true, true
	_, err := inner.update(ctx, func(live store.Object) (next store.Object, err error) {
		next = o.res.schema.Copy(live)
		answer, err = sub.change(ctx, next, body)
		return next, err
	})
	if err != nil {
		return err
	}
	kind := sub.kind
	if answer == nil {
		answer, kind = &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, statusKind
	}
	_, protobuf := answer.(marshaler)
	m, err := accepted(x.r, protobuf)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if x.verb == "create" {
		code = http.StatusCreated
	}
	x.answer(code, m.format, kind, answer)
	return nil
}

var scaleKind = gvk{Group: "autoscaling", Version: "v1", Kind: "Scale"}

// scale serves the number of replicas.
func (x *exchange) scale(o *op) error {
	m, err := accepted(x.r, true)
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	var out store.Object
	switch x.verb {
	case "get":
		out, err = x.server.store.Get(ctx, o.res.schema, o.key, store.ReadOptions{})
	case "update", "patch":
		out, err = x.setScale(o)
	default:
		return methodNotAllowed()
	}
	if err != nil {
		return err
	}
	x.answer(http.StatusOK, m.format, scaleKind, o.scaleOf(out))
	return nil
}

// scaleOf returns the object's scale.
func (o *op) scaleOf(obj store.Object) *autoscalingv1.Scale {
	meta, sc := metaOf(o.res, obj), o.res.scale
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: meta.GetName(), Namespace: meta.GetNamespace(), UID: meta.GetUID(),
			ResourceVersion: meta.GetResourceVersion(), CreationTimestamp: meta.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: sc.replicas(obj)},
		Status: autoscalingv1.ScaleStatus{Replicas: sc.status(obj), Selector: sc.selector(obj)},
	}
}

func (x *exchange) setScale(o *op) (store.Object, error) {
	data, err := x.server.readBody(x.r)
	if err != nil {
		return nil, err
	}
	read, err := x.scaleReader(o, data)
	if err != nil {
		return nil, err
	}
	o.derived = x.verb == "patch"
	return o.update(x.r.Context(), func(live store.Object) (store.Object, error) {
		wanted, err := read(live)
		if err != nil {
			return nil, err
		}
		if err := o.checkScale(live, wanted); err != nil {
			return nil, err
		}
		next := o.res.schema.Copy(live)
		next.SetResourceVersion(wanted.ResourceVersion)
		o.res.scale.setReplicas(next, wanted.Spec.Replicas)
		return next, nil
	})
}

// scaleReader returns what makes the wanted scale of the present object: the
// body, or a patch of the present scale.
func (x *exchange) scaleReader(o *op, data []byte) (func(store.Object) (*autoscalingv1.Scale, error), error) {
	d := o.decoder()
	d.kind = scaleKind
	if x.verb == "update" {
		wanted := &autoscalingv1.Scale{}
		err := d.decode(contentType(x.r), data, wanted)
		return func(store.Object) (*autoscalingv1.Scale, error) { return wanted, nil }, err
	}
	kind := contentType(x.r)
	if kind == typeApplyPatch {
		wanted := &autoscalingv1.Scale{}
		err := d.decode(typeYAML, data, wanted)
		return func(store.Object) (*autoscalingv1.Scale, error) { return wanted, nil }, err
	}
	if err := checkDepth(data, x.server.limits.Depth); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	run, err := patchFunc(kind, data, &autoscalingv1.Scale{})
	if err != nil {
		return nil, err
	}
	p := &textPatch{o, run}
	return func(live store.Object) (*autoscalingv1.Scale, error) {
		doc, err := encodeJSON(scaleKind, o.scaleOf(live))
		if err != nil {
			return nil, err
		}
		patched, err := run(doc)
		if err != nil {
			return nil, p.failed(err)
		}
		wanted := &autoscalingv1.Scale{}
		return wanted, d.json(patched, wanted)
	}, nil
}

func (o *op) checkScale(live store.Object, wanted *autoscalingv1.Scale) error {
	if wanted.Name != "" && wanted.Name != o.key.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", wanted.Name, o.key.Name))
	}
	path := field.NewPath("spec", "replicas")
	errs := apivalidation.ValidateNonnegativeField(int64(wanted.Spec.Replicas), path)
	if err := o.res.scale.validate(live, wanted.Spec.Replicas); err != nil {
		errs = append(errs, field.Invalid(path, wanted.Spec.Replicas, err.Error()))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(scaleKind.GroupKind(), o.key.Name, errs)
	}
	return nil
}
