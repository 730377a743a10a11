// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
)

// maxOperations is how many operations a JSON patch may have.
const maxOperations = 10000

func (x *exchange) patch(o *op) error {
	m, err := x.media(o.res)
	if err != nil {
		return err
	}
	data, err := x.server.readBody(x.r)
	if err != nil {
		return err
	}
	kind := contentType(x.r)
	force := x.r.URL.Query().Get("force")
	if kind == typeApplyPatch {
		if x.r.URL.Query().Get("fieldManager") == "" {
			return apierrors.NewInvalid(gvk{Group: "meta.k8s.io", Kind: "PatchOptions"}.GroupKind(), "",
				field.ErrorList{field.Required(field.NewPath("fieldManager"), "is required for apply patch")})
		}
		out, created, err := o.apply(x.r.Context(), data, isTrue(force))
		if err != nil {
			return err
		}
		code := http.StatusOK
		if created {
			code = http.StatusCreated
		}
		return x.show(o, m, code, out)
	}
	if force != "" {
		return apierrors.NewInvalid(gvk{Group: "meta.k8s.io", Kind: "PatchOptions"}.GroupKind(), "",
			field.ErrorList{field.Forbidden(field.NewPath("force"), "may not be specified for non-apply patch")})
	}
	patch, err := newPatch(o, kind, data)
	if err != nil {
		return err
	}
	o.derived = true
	out, err := o.update(x.r.Context(), patch.change)
	if err != nil {
		return err
	}
	return x.show(o, m, http.StatusOK, out)
}

// textPatch changes the JSON of an object.
type textPatch struct {
	op  *op
	run func(document []byte) ([]byte, error)
}

// newPatch reads a patch of any type but apply.
func newPatch(o *op, kind string, data []byte) (*textPatch, error) {
	if err := checkDepth(data, o.server.limits.Depth); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if !json.Valid(data) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the patch is no JSON: %v", json.Unmarshal(data, new(any))))
	}
	var typed any
	if !o.res.untyped {
		typed = o.res.new()
	}
	run, err := patchFunc(kind, data, typed)
	if err != nil {
		return nil, err
	}
	return &textPatch{o, run}, nil
}

// patchFunc returns what a patch does to a document. typed is a value of the
// document's Go type, by whose tags strategic merge patches go; nil: there is
// none, nor such patches.
func patchFunc(kind string, data []byte, typed any) (func([]byte) ([]byte, error), error) {
	switch kind {
	case typeJSONPatch:
		p, err := jsonpatch.DecodePatch(data)
		if err != nil {
			return nil, apierrors.NewBadRequest("the patch is no list of operations: " + err.Error())
		}
		if len(p) > maxOperations {
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(p)))
		}
		return func(doc []byte) ([]byte, error) { return applyJSONPatch(p, doc) }, nil
	case typeMergePatch:
		if err := wantObject(data); err != nil {
			return nil, err
		}
		return func(doc []byte) ([]byte, error) { return jsonpatch.MergePatch(doc, data) }, nil
	case typeStrategicPatch:
		if err := wantObject(data); err != nil {
			return nil, err
		}
		if typed == nil {
			break
		}
		return func(doc []byte) ([]byte, error) {
			return strategicpatch.StrategicMergePatch(doc, data, typed)
		}, nil
	}
	known := []string{typeJSONPatch, typeMergePatch, typeApplyPatch}
	if typed != nil {
		known = append(known, typeStrategicPatch)
	}
	return nil, unsupportedMediaType(kind, known...)
}

// applyJSONPatch turns the library's panics, which some unlikely patches bring
// about, into errors.
func applyJSONPatch(p jsonpatch.Patch, doc []byte) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", jsonpatch.ErrInvalid, r)
		}
	}()
	return p.Apply(doc)
}

func wantObject(data []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil || m == nil {
		return apierrors.NewBadRequest("the patch must be a JSON object")
	}
	return nil
}

// change implements change.
func (p *textPatch) change(live store.Object) (store.Object, error) {
	doc, err := encodeJSON(p.op.res.gvk, live)
	if err != nil {
		return nil, err
	}
	patched, err := p.run(doc)
	if err != nil {
		return nil, p.failed(err)
	}
	next := p.op.res.new()
	d := p.op.decoder()
	if err := d.json(patched, next); err != nil {
		return nil, err
	}
	return next, nil
}

// failed says why the patch did not apply.
func (p *textPatch) failed(err error) error {
	o := p.op
	switch {
	case mergepatch.IsPreconditionFailed(err), mergepatch.IsConflict(err):
		return apierrors.NewConflict(o.res.groupResource(), o.key.Name, err)
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return apierrors.NewBadRequest(err.Error())
	}
	return &StatusError{status: status(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid,
		fmt.Sprintf("the server rejected our request due to an error in our request: %v", err)), cause: err}
}

// apply is server-side apply: it creates the object if it is not there.
func (o *op) apply(ctx context.Context, data []byte, force bool) (out store.Object, created bool, err error) {
	o.verb, o.derived = "apply", true // the account of the fields is kept on the way
	config, err := o.configuration(data)
	if err != nil {
		return nil, false, err
	}
	for {
		out, err = o.update(ctx, func(live store.Object) (store.Object, error) {
			return o.merged(live, config, force)
		})
		if !errors.Is(err, store.ErrNotFound) || isAPIStatus(err) || o.sub != "" {
			return out, false, err
		}
		out, err = o.applyNew(ctx, config, force)
		if !errors.Is(err, store.ErrAlreadyExists) {
			return out, true, err
		}
	}
}

// configuration reads the object that is applied.
func (o *op) configuration(data []byte) (*unstructured.Unstructured, error) {
	d := o.decoder()
	text, err := d.yaml(data)
	if err != nil {
		return nil, err
	}
	typed := o.res.new()
	if err := d.json(text, typed); err != nil { // for what it says of unknown fields and wrong types
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil { // demands a kind
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(u.GetManagedFields()) > 0 {
		return nil, apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	o.strip(u)
	return u, o.place(typed)
}

// strip takes out of a configuration what the request can't change, so that
// nobody comes to own it by trying.
func (o *op) strip(u *unstructured.Unstructured) {
	if o.res.status == nil {
		return
	}
	if o.sub != "status" {
		delete(u.Object, "status")
		return
	}
	for key := range u.Object {
		if key != "apiVersion" && key != "kind" && key != "metadata" && key != "status" {
			delete(u.Object, key)
		}
	}
}

// merged returns the live object with the configuration applied.
func (o *op) merged(live store.Object, config *unstructured.Unstructured, force bool) (store.Object, error) {
	if uid := config.GetUID(); uid != "" && o.res.schema.Accessors.UID != nil && string(uid) != o.res.schema.Accessors.UID(live) {
		return nil, apierrors.NewConflict(o.res.groupResource(), o.key.Name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and the existing one is %s", uid, o.res.schema.Accessors.UID(live)))
	}
	before, err := o.res.toMap(live)
	if err != nil {
		return nil, err
	}
	return o.applied(before, config, force)
}

func (o *op) applied(before, config *unstructured.Unstructured, force bool) (store.Object, error) {
	next, err := o.res.managers.apply(o, before, config.DeepCopy(), force)
	if err != nil {
		return nil, o.notApplied(err)
	}
	return next, nil
}

func (o *op) notApplied(err error) error {
	if isAPIStatus(err) {
		return err
	}
	return apierrors.NewBadRequest(fmt.Sprintf("failed to create typed patch object (%s; %s): %v", o.key, o.res.gvk.GroupVersion().WithKind(o.res.gvk.Kind), err))
}

// applyNew creates the object that is applied, if the user may.
func (o *op) applyNew(ctx context.Context, config *unstructured.Unstructured, force bool) (store.Object, error) {
	a := o.attributes()
	a.Verb = "create"
	if err := o.server.authorize(ctx, a); err != nil {
		return nil, err
	}
	if config.GetUID() != "" {
		return nil, apierrors.NewConflict(o.res.groupResource(), o.key.Name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", config.GetUID()))
	}
	empty := &unstructured.Unstructured{} // and not a typed one, whose empty fields would seem to belong to somebody
	empty.SetGroupVersionKind(o.res.gvk)
	empty.SetName(o.key.Name)
	empty.SetNamespace(o.key.Namespace)
	next, err := o.applied(empty, config, force)
	if err != nil {
		return nil, err
	}
	return o.create(ctx, next)
}
