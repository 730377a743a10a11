// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
)

// create stores a new object, which becomes the server's.
func (o *op) create(ctx context.Context, obj store.Object) (store.Object, error) {
	if err := o.place(obj); err != nil {
		return nil, err
	}
	if v := obj.GetResourceVersion(); v != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	o.reset(obj)
	o.res.defaults(obj)
	prefix := ""
	if obj.GetName() == "" {
		prefix = obj.GetGenerateName()
	}
	for attempt := 1; ; attempt++ {
		try := obj
		if prefix != "" {
			try = o.res.schema.Copy(obj)
			try.SetName(generateName(prefix))
		}
		out, err := o.createOnce(ctx, try)
		if prefix == "" || attempt == 8 || !errors.Is(err, store.ErrAlreadyExists) {
			return out, err
		}
	}
}

func (o *op) createOnce(ctx context.Context, obj store.Object) (store.Object, error) {
	o.key.Name = obj.GetName()
	r := o.request(ctx, admission.Create, nil, obj)
	if err := o.mutate(ctx, r); err != nil {
		return nil, err
	}
	o.res.managers.created(o, obj)
	if err := o.validateNew(obj); err != nil {
		return nil, err
	}
	if err := o.validate(ctx, r); err != nil {
		return nil, err
	}
	return o.commit(ctx, r, store.Write{Op: store.Create, Object: obj, Options: store.WriteOptions{TakeOver: true}})
}

// place checks that the object is of the namespace and name that the URL says,
// and fills in what it leaves out.
func (o *op) place(obj store.Object) error {
	switch ns := obj.GetNamespace(); {
	case ns == "":
		obj.SetNamespace(o.key.Namespace)
	case ns != o.key.Namespace:
		return apierrors.NewBadRequest(fmt.Sprintf("the namespace of the provided object does not match the namespace sent on the request (%s != %s)", ns, o.key.Namespace))
	}
	if o.verb == "create" {
		return nil
	}
	switch name := obj.GetName(); {
	case name == "":
		obj.SetName(o.key.Name)
	case name != o.key.Name:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, o.key.Name))
	}
	return nil
}

// reset clears what a client has no say in.
func (o *op) reset(obj store.Object) {
	clearTypeMeta(o.res, obj)
	if g, ok := obj.(interface{ SetDeletionGracePeriodSeconds(*int64) }); ok {
		g.SetDeletionGracePeriodSeconds(nil)
	}
	if o.res.status != nil && !o.res.keepStatus && !o.whole {
		o.res.status.clear(obj)
	}
}

// generateName adds five random characters, of those that spell nothing.
func generateName(prefix string) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	const most = 63 - 5
	if len(prefix) > most {
		prefix = prefix[:most]
	}
	b := []byte(prefix)
	for range 5 {
		b = append(b, letters[rand.IntN(len(letters))])
	}
	return string(b)
}

var metadataPath = field.NewPath("metadata")

// validateNew checks what every object must keep. Where that fails, what the
// kind has to say is added: the client then reads all that is wrong at once.
func (o *op) validateNew(obj store.Object) error {
	errs := apivalidation.ValidateObjectMetaAccessor(metaOf(o.res, obj), o.res.namespaced(), o.res.validateName, metadataPath)
	return o.invalid(errs, nil, obj)
}

// invalid returns the errors as one, with those of the kind's own validation, or
// nil if there are none: the store asks the kind again when it writes.
func (o *op) invalid(errs field.ErrorList, old, obj store.Object) error {
	if len(errs) == 0 {
		return nil
	}
	if err := o.res.schema.Prepare(old, obj); err != nil {
		collect(err, &errs)
	}
	return apierrors.NewInvalid(o.res.gvk.GroupKind(), o.key.Name, errs)
}

// validateName says what is wrong with a name: by the kind's rule, or as a
// subdomain of DNS, as most kinds have it.
func (r *resource) validateName(name string, prefix bool) []string {
	if r.schema.ValidateName == nil {
		return apivalidation.NameIsDNSSubdomain(name, prefix)
	}
	if prefix {
		name += "x" // what will be added makes it whole
	}
	if err := store.ValidateName("name", name); err != nil {
		return []string{reason(err)}
	}
	if err := r.schema.ValidateName(name); err != nil {
		return []string{reason(err)}
	}
	return nil
}
