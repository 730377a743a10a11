// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Lighthouse wants to be lit.
type Lighthouse struct {
	store.Meta `json:"metadata"`
	Spec       struct{ Lit bool }
	Status     struct{ Burning bool }
}

func (l *Lighthouse) DeepCopy() *Lighthouse { return store.DeepCopy(l) }

// A controller is a function that makes one object as it should be.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	st := memory.New(memory.Options{})
	defer st.Close()
	m := reconcile.NewManager(st, reconcile.ManagerOptions{})
	lights, err := store.Register(m.Store(), store.Kind[*Lighthouse]{Name: "Lighthouse"})
	if err != nil {
		log.Fatal(err)
	}

	_, err = reconcile.New(m, "keeper", func(ctx context.Context, key store.Key) reconcile.Result {
		light, err := lights.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) || err == nil && light.Status.Burning == light.Spec.Lit {
			return reconcile.Done()
		}
		_, err = lights.Patch(ctx, key, func(l *Lighthouse) error { l.Status.Burning = l.Spec.Lit; return nil })
		return reconcile.OK(err)
	}, reconcile.Options[store.Key]{}, reconcile.For(lights, reconcile.GenerationChanged))
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- m.Run(ctx) }()

	light := &Lighthouse{Meta: store.Meta{Namespace: "coast", Name: "north"}}
	light.Spec.Lit = true
	if _, err := lights.Create(ctx, light); err != nil {
		log.Fatal(err)
	}
	for ev, err := range lights.Watch(ctx, store.WatchOptions{From: 1}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.Type, ev.Object.Name, "burning:", ev.Object.Status.Burning)
		if ev.Object.Status.Burning {
			break
		}
	}
	stop()
	fmt.Println(<-ended)
	// Output:
	// ADDED north burning: false
	// MODIFIED north burning: true
	// <nil>
}

// Explain says why a key was run, and what it waits for.
func ExampleController_Explain() {
	ctx, stop := context.WithCancel(context.Background())
	st := memory.New(memory.Options{})
	defer st.Close()
	m := reconcile.NewManager(st, reconcile.ManagerOptions{})
	lights, err := store.Register(m.Store(), store.Kind[*Lighthouse]{Name: "Lighthouse"})
	if err != nil {
		log.Fatal(err)
	}
	c, err := reconcile.New(m, "keeper", func(context.Context, store.Key) reconcile.Result {
		return reconcile.Park(errors.New("out of oil"))
	}, reconcile.Options[store.Key]{}, reconcile.For(lights))
	if err != nil {
		log.Fatal(err)
	}
	light, err := lights.Create(ctx, &Lighthouse{Meta: store.Meta{Namespace: "coast", Name: "north"}})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- m.Run(ctx) }()
	<-c.Settled()

	e := c.Explain(store.KeyOf(light))
	fmt.Println(e.Queue.Phase, "because it was", e.Last.Outcome, "with:", e.Last.Err)
	for _, cause := range e.Last.Causes {
		fmt.Println("it ran because of:", cause)
	}
	stop()
	<-ended
	// Output:
	// parked because it was parked with: out of oil
	// it ran because of: initial Lighthouse coast/north at revision 2
}
