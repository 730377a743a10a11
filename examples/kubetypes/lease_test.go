// SPDX-License-Identifier: Apache-2.0

package kubetypes_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/examples/kubetypes"
	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

func TestLeaseFields(t *testing.T) {
	ours, theirs := fields(reflect.TypeFor[reconcile.LeaseSpec]()), fields(reflect.TypeFor[coordinationv1.LeaseSpec]())
	if ours != theirs {
		t.Errorf("LeaseSpec has the fields\n%s\nKubernetes' has\n%s", ours, theirs)
	}
}

// TestLeaseJSON has both types read the same text and write it again: what they
// write must be the same, byte for byte.
func TestLeaseJSON(t *testing.T) {
	for _, text := range []string{
		`{}`,
		`{"metadata":{},"spec":{}}`,
		`{"metadata":{"name":"a","namespace":"b","annotations":{"slipway.dev/fence":"7"}}}`,
		`{"spec":{"holderIdentity":"","leaseDurationSeconds":15,"leaseTransitions":0}}`,
		`{"spec":{"holderIdentity":"<&>\u2028","leaseDurationSeconds":-1,"leaseTransitions":2147483647}}`,
		`{"spec":{"acquireTime":"2026-07-01T12:30:45.123456Z","renewTime":"2026-07-01T12:30:45.000000Z"}}`,
		`{"spec":{"acquireTime":"2026-07-01T12:30:45.100000+05:30","renewTime":"2026-07-01T12:30:45.999999-11:00"}}`,
		`{"spec":{"acquireTime":"0001-01-01T00:00:00.000000Z","renewTime":null}}`,
		`{"spec":{"strategy":"OldestEmulationVersion","preferredHolder":"x"}}`,
		`{"spec":{"holderIdentity":null,"leaseDurationSeconds":null,"strategy":null}}`,
	} {
		var ours reconcile.Lease
		var theirs coordinationv1.Lease
		if err := errors.Join(json.Unmarshal([]byte(text), &ours), json.Unmarshal([]byte(text), &theirs)); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, l := range []*reconcile.Lease{&ours, ours.DeepCopy()} {
			if got, want := marshal(t, l), marshal(t, theirs); got != want {
				t.Errorf("%s:\nours writes         %s\nKubernetes' writes %s", text, got, want)
			}
		}
	}
	for _, text := range []string{`{"spec":{"renewTime":1}}`, `{"spec":{"renewTime":"now"}}`, `{"spec":{"leaseDurationSeconds":2147483648}}`} {
		if json.Unmarshal([]byte(text), new(coordinationv1.Lease)) == nil {
			t.Errorf("Kubernetes' reads %s", text)
		}
		if json.Unmarshal([]byte(text), new(reconcile.Lease)) == nil {
			t.Errorf("ours reads %s", text)
		}
	}
}

// TestLeasesOfKubernetesTypes elects and shards over stores whose kind of Leases
// is Kubernetes' own, typed and untyped.
func TestLeasesOfKubernetesTypes(t *testing.T) {
	gvk := schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}
	for name, register := range map[string]func(store.Store) error{
		"typed": func(st store.Store) error {
			_, err := store.Register(st, store.Kind[*coordinationv1.Lease]{Name: gvk.Kind, Group: gvk.Group, Version: gvk.Version,
				Accessors: store.InferAccessors[*coordinationv1.Lease]()})
			return err
		},
		"untyped": func(st store.Store) error {
			_, err := store.Register(st, kubetypes.Resources(gvk, store.Namespaced))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := memory.New(memory.Options{})
				defer st.Close()
				if err := register(st); err != nil {
					t.Fatal(err)
				}
				electAndShard(t, st)
			})
		})
	}
}

// electAndShard runs two replicas, one after the other.
func electAndShard(t *testing.T, st store.Store) {
	var last reconcile.Term
	for _, identity := range []string{"a", "b"} {
		ctx, cancel := context.WithCancel(t.Context())
		e, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "default", Name: "leader", Identity: identity})
		if err != nil {
			t.Fatal(err)
		}
		s, err := reconcile.NewSharder(st, reconcile.SharderOptions{Namespace: "default", Name: "shards", Identity: identity})
		if err != nil {
			t.Fatal(err)
		}
		sharded := make(chan error, 1)
		go func() { sharded <- s.Run(ctx) }()
		began := time.Now()
		err = e.Run(ctx, func(ctx context.Context, term reconcile.Term) error {
			if took := time.Since(began); took > 0 || term.Epoch <= last.Epoch {
				t.Errorf("%s leads after %v in epoch %d, the last was %d", identity, took, term.Epoch, last.Epoch)
			}
			last = term
			time.Sleep(2 * time.Minute)
			return ctx.Err()
		})
		if err != nil {
			t.Error(err)
		}
		if n := len(s.Shards()); n != 256 {
			t.Errorf("%s has %d of 256 shards", identity, n)
		}
		cancel()
		if err := <-sharded; err != nil {
			t.Error(err)
		}
	}
}

func TestLeaseKindThatIsNone(t *testing.T) {
	for name, c := range map[string]struct {
		register func(st store.Store) error
		want     string
	}{
		"other type": {func(st store.Store) error {
			_, err := store.Register(st, store.Kind[*parcel]{Name: "Lease", Group: "coordination.k8s.io", Version: "v1"})
			return err
		}, "does not keep the fields"},
		"cluster-scoped": {func(st store.Store) error {
			kind := reconcile.LeaseKind()
			kind.Scope = store.Cluster
			_, err := store.Register(st, kind)
			return err
		}, "cluster-scoped"},
	} {
		st := memory.New(memory.Options{})
		if err := c.register(st); err != nil {
			t.Fatal(err)
		}
		_, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "default", Name: "leader", Identity: "a"})
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
		st.Close()
	}
}

// parcel is an object that is no Lease.
type parcel struct {
	store.Meta `json:"metadata"`
	Data       string
}

func (u *parcel) DeepCopy() *parcel { return store.DeepCopy(u) }
