// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// TestElectorsOfTwoKinds has our elector and client-go's hand one lease to each
// other: both read what the other writes, and neither leads while the other does.
func TestElectorsOfTwoKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		leases, err := store.Register(st, store.Kind[*coordinationv1.Lease]{Name: "Lease", Group: "coordination.k8s.io", Version: "v1",
			Accessors: store.InferAccessors[*coordinationv1.Lease]()})
		if err != nil {
			t.Fatal(err)
		}
		leader := make(chan string, 10)
		ours := func(ctx context.Context) {
			e, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "default", Name: "x", Identity: "ours"})
			if err != nil {
				t.Error(err)
				return
			}
			if err := e.Run(ctx, func(ctx context.Context, _ reconcile.Term) error {
				leader <- "ours"
				<-ctx.Done()
				return ctx.Err()
			}); err != nil {
				t.Error(err)
			}
		}
		theirs := func(ctx context.Context) {
			leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
				Lock: &resourcelock.LeaseLock{
					LeaseMeta:  metav1.ObjectMeta{Namespace: "default", Name: "x"},
					Client:     lockClient{leases: leases},
					LockConfig: resourcelock.ResourceLockConfig{Identity: "theirs"},
				},
				LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second, ReleaseOnCancel: true,
				Callbacks: leaderelection.LeaderCallbacks{
					OnStartedLeading: func(context.Context) { leader <- "theirs" },
					OnStoppedLeading: func() {},
				},
			})
		}
		start := func(run func(context.Context)) (stop func()) {
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); run(ctx) }()
			return func() { cancel(); <-done }
		}
		runs := []func(context.Context){ours, theirs, ours, theirs, ours}
		names := []string{"ours", "theirs", "ours", "theirs", "ours"}
		stop := start(runs[0])
		for i, want := range names {
			if got := <-leader; got != want {
				t.Fatalf("term %d is of %s, want %s", i, got, want)
			}
			stopNext := func() {}
			if i+1 < len(runs) {
				stopNext = start(runs[i+1])
			}
			time.Sleep(10 * time.Minute)
			if n := len(leader); n > 0 {
				t.Fatalf("%s leads while %s renews the lease", <-leader, want)
			}
			stop()
			stop = stopNext
		}
	})
}

// lockClient is what client-go's lock needs of a client.
type lockClient struct {
	coordinationclient.LeaseInterface
	leases *store.Handle[*coordinationv1.Lease]
}

func (c lockClient) Leases(string) coordinationclient.LeaseInterface { return c }

func (c lockClient) Get(ctx context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	l, err := c.leases.Get(ctx, store.NewKey("default", name))
	return answer(l, err)
}

func (c lockClient) Create(ctx context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	l.Namespace = "default"
	return answer(c.leases.Create(ctx, l))
}

func (c lockClient) Update(ctx context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	return answer(c.leases.Update(ctx, l))
}

// answer returns what a client would: an object of the caller's own, and an API
// server's errors.
func answer(l *coordinationv1.Lease, err error) (*coordinationv1.Lease, error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), "x")
	case errors.Is(err, store.ErrConflict):
		return nil, apierrors.NewConflict(coordinationv1.Resource("leases"), "x", err)
	case err != nil:
		return nil, err
	}
	return l.DeepCopy(), nil
}
