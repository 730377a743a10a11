// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// leaseObjects reads and writes the Lease objects of a store. Where the store's
// kind is of another Go type (Kubernetes' own, in a store that an API server
// stands before), they are converted by way of their JSON: that costs some
// microseconds every few seconds.
type leaseObjects struct {
	store   store.Store
	schema  *store.Schema
	foreign bool // the kind's objects are not *Lease
}

// openLeases makes the kind known to the store, unless it is.
func openLeases(st store.Store) (*leaseObjects, error) {
	if st == nil {
		return nil, store.Invalidf("the store is nil")
	}
	schema, err := LeaseKind().Schema()
	if err != nil {
		return nil, err
	}
	if known := st.Kind(schema.KindName); known != nil {
		schema = known
	} else if err := st.Register(schema); errors.Is(err, store.ErrKindExists) { // another was faster
		schema = st.Kind(schema.KindName)
	} else if err != nil {
		return nil, err
	}
	if schema == nil {
		return nil, &store.Error{Op: "look up", Kind: LeaseKind().KindName().String(), Err: store.ErrUnknownKind}
	}
	o := &leaseObjects{store: st, schema: schema, foreign: schema.Type != reflect.TypeFor[*Lease]()}
	return o, o.check()
}

// check finds out whether the kind that somebody else registered is one of Leases.
func (o *leaseObjects) check() error {
	if o.schema.Scope != store.Namespaced {
		return store.Invalidf("the kind %s is cluster-scoped: want it namespaced", o.schema.KindName)
	}
	probe := &Lease{
		Meta: store.Meta{Namespace: "a", Name: "b", ResourceVersion: "1", Annotations: map[string]string{"c": "d"}},
		Spec: LeaseSpec{HolderIdentity: new("e"), LeaseDurationSeconds: new(int32(2)), LeaseTransitions: new(int32(3)),
			RenewTime: &MicroTime{time.Unix(4, 5000).UTC()}},
	}
	object, err := o.encode(probe)
	if err == nil {
		var back *Lease
		if back, err = o.decode(object); err == nil && !reflect.DeepEqual(back, probe) {
			err = errors.New("it does not keep the fields")
		}
	}
	if err != nil {
		return store.Invalidf("the kind %s is registered with %s, which is no Lease: %w", o.schema.KindName, o.schema.Type, err)
	}
	return nil
}

// typed is what a Lease's JSON has besides where its type has room for it.
type typed struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	*Lease
}

func (o *leaseObjects) encode(l *Lease) (store.Object, error) {
	if !o.foreign {
		return l, nil
	}
	text, err := json.Marshal(typed{o.schema.APIVersion(), o.schema.Name, l})
	if err != nil {
		return nil, err
	}
	if o.schema.Type.Kind() != reflect.Pointer {
		return nil, errors.New("want a pointer type")
	}
	object, ok := reflect.New(o.schema.Type.Elem()).Interface().(store.Object)
	if !ok {
		return nil, errors.New("it is no object")
	}
	return object, json.Unmarshal(text, object)
}

// decode returns the object as a Lease, which is shared and must not be changed.
func (o *leaseObjects) decode(object store.Object) (*Lease, error) {
	if !o.foreign {
		return object.(*Lease), nil
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	l := new(Lease)
	return l, json.Unmarshal(text, l)
}

func (o *leaseObjects) get(ctx context.Context, key store.Key) (*Lease, error) {
	object, err := o.store.Get(ctx, o.schema, key, store.ReadOptions{})
	if err != nil {
		return nil, err
	}
	return o.decode(object)
}

// list returns the Leases of one revision.
func (o *leaseObjects) list(ctx context.Context, opts store.ListOptions) ([]*Lease, error) {
	var leases []*Lease
	var failed error
	_, err := o.store.List(ctx, o.schema, opts, func(object store.Object) bool {
		l, err := o.decode(object)
		leases, failed = append(leases, l), err
		return err == nil
	})
	return leases, errors.Join(failed, err)
}

func (o *leaseObjects) create(ctx context.Context, l *Lease) (*Lease, error) {
	return o.write(ctx, store.Create, l)
}

// update replaces the object at the version that l has. Every write of the
// protocol demands one: a write that was delayed on its way can do no harm then.
func (o *leaseObjects) update(ctx context.Context, l *Lease) (*Lease, error) {
	return o.write(ctx, store.Update, l)
}

func (o *leaseObjects) write(ctx context.Context, op store.Op, l *Lease) (*Lease, error) {
	object, err := o.encode(l)
	if err != nil {
		return nil, fmt.Errorf("encode Lease %s: %w", store.KeyOf(l), err)
	}
	written, err := o.store.Write(ctx, o.schema, store.Write{Op: op, Object: object})
	if err != nil {
		return nil, err
	}
	return o.decode(written)
}

// remove deletes the object at the version that l has.
func (o *leaseObjects) remove(ctx context.Context, l *Lease) error {
	_, err := o.store.Write(ctx, o.schema, store.Write{Op: store.Delete, Key: store.KeyOf(l),
		Options: store.WriteOptions{ResourceVersion: l.ResourceVersion, UID: l.UID}})
	return err
}

// follow calls see with each change until the context ends. It is a hint and no
// more: where the watch fails, changes are seen later, by those who look.
func (o *leaseObjects) follow(ctx context.Context, opts store.WatchOptions, again time.Duration, log *slog.Logger, see func(store.EventType, *Lease)) {
	for ctx.Err() == nil {
		for ev, err := range o.store.Watch(ctx, o.schema, opts) {
			if err != nil {
				log.Debug("reconcile: the watch of leases failed", "namespace", opts.Namespace, "error", err)
				break
			}
			if ev.Object == nil {
				continue
			}
			if l, err := o.decode(ev.Object); err == nil {
				see(ev.Type, l)
			}
		}
		sleep(ctx, again)
	}
}

// sleep waits for d, or until the context ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// grant makes a fence, if the store has any: 0 if not.
func (o *leaseObjects) grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	leaser, ok := o.store.(store.Leaser)
	if !ok {
		return 0, nil
	}
	lease, err := leaser.Grant(ctx, ttl)
	if errors.Is(err, store.ErrUnsupported) { // a store that wraps another, which has none
		return 0, nil
	}
	return lease.ID, err
}

func (o *leaseObjects) keepAlive(ctx context.Context, fence store.LeaseID) error {
	if fence == 0 {
		return nil
	}
	return o.store.(store.Leaser).KeepAlive(ctx, fence)
}

// revoke ends a fence. It succeeds where that has ended already.
func (o *leaseObjects) revoke(ctx context.Context, fence store.LeaseID) error {
	leaser, ok := o.store.(store.Leaser)
	if fence == 0 || !ok {
		return nil
	}
	err := leaser.Revoke(ctx, fence)
	if errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrUnsupported) {
		return nil
	}
	return err
}

// hopeless reports whether an error will be the same however often one tries.
func hopeless(err error) bool {
	return errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrInvalid) ||
		errors.Is(err, store.ErrUnknownKind) || errors.Is(err, store.ErrUnsupported)
}
