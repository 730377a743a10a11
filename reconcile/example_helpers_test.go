// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Database is what the examples' controller looks after; it keeps its data in
// volumes.
type Database struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Size int `json:"size"`
	} `json:"spec"`
	Status struct {
		Conditions []reconcile.Condition `json:"conditions,omitempty"`
	} `json:"status"`
}

func (d *Database) DeepCopy() *Database { return store.DeepCopy(d) }

type Volume struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Size  int    `json:"size,omitempty"`
		Class string `json:"class,omitempty"`
	} `json:"spec"`
}

func (v *Volume) DeepCopy() *Volume { return store.DeepCopy(v) }

// exampleStore returns a store with the two kinds, and a database.
func exampleStore(ctx context.Context) (*memory.Store, *store.Handle[*Database], *store.Handle[*Volume], *Database) {
	st := memory.New(memory.Options{})
	databases, err := store.Register(st, store.Kind[*Database]{Name: "Database", Group: "example.com", Version: "v1"})
	if err != nil {
		log.Fatal(err)
	}
	volumes, err := store.Register(st, store.Kind[*Volume]{Name: "Volume", Group: "example.com", Version: "v1"})
	if err != nil {
		log.Fatal(err)
	}
	db, err := databases.Create(ctx, &Database{Meta: store.Meta{Namespace: "default", Name: "shop"}})
	if err != nil {
		log.Fatal(err)
	}
	return st, databases, volumes, db
}

func newVolume(name string) *Volume {
	return &Volume{Meta: store.Meta{Namespace: "default", Name: name}}
}

// A finalizer lets a controller clean up outside of the store before an object
// goes.
func ExampleFinalize() {
	ctx := context.Background()
	st, databases, _, db := exampleStore(ctx)
	defer st.Close()

	reconcileOnce := func() {
		db, err := databases.Get(ctx, store.NewKey("default", "shop"))
		if err != nil {
			log.Fatal(err)
		}
		db, deleted, err := reconcile.Finalize(ctx, databases, db, "example.com/disk", func(ctx context.Context, db *Database) error {
			fmt.Println("wiping the disk of", db.Name)
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
		if deleted {
			return
		}
		fmt.Println("making a disk for", db.Name, db.Finalizers)
	}
	reconcileOnce()
	if _, err := databases.Delete(ctx, store.KeyOf(db)); err != nil { // only marks it
		log.Fatal(err)
	}
	reconcileOnce()
	_, err := databases.Get(ctx, store.KeyOf(db))
	fmt.Println(errors.Is(err, store.ErrNotFound))
	// Output:
	// making a disk for shop [example.com/disk]
	// wiping the disk of shop
	// true
}

// The functions for finalizers work in memory, on objects of any kind: call them
// where an object is being changed anyway.
func ExampleAddFinalizer() {
	ctx := context.Background()
	st, databases, _, db := exampleStore(ctx)
	defer st.Close()
	db, err := databases.Patch(ctx, store.KeyOf(db), func(db *Database) error {
		_, err := reconcile.AddFinalizer(db, "example.com/disk")
		return err
	})
	fmt.Println(db.Finalizers, err)
	_, err = reconcile.AddFinalizer(&Database{}, "disk")
	fmt.Println(err)
	// Output:
	// [example.com/disk] <nil>
	// invalid: finalizer "disk": want a domain, a slash and a name, such as example.com/volumes
}

// What a controller makes refers to what it made it for.
func ExampleSetController() {
	ctx := context.Background()
	st, databases, volumes, db := exampleStore(ctx)
	defer st.Close()
	v := newVolume("shop-0")
	if err := reconcile.SetController(volumes, v, databases, db); err != nil {
		log.Fatal(err)
	}
	v, err := volumes.Create(ctx, v)
	if err != nil {
		log.Fatal(err)
	}
	owner, _ := reconcile.ControllerOf(volumes, v)
	fmt.Println(owner.APIVersion, owner.Kind, owner.Name)
	fmt.Println(reconcile.IsControlledBy(volumes, v, databases, db))

	other, err := databases.Create(ctx, &Database{Meta: store.Meta{Namespace: "default", Name: "blog"}})
	if err != nil {
		log.Fatal(err)
	}
	err = reconcile.SetController(volumes, v.DeepCopy(), databases, other)
	fmt.Println(errors.Is(err, reconcile.ErrOwned))
	// Output:
	// example.com/v1 Database shop
	// true
	// true
}

// A condition keeps the time of its last transition until its status changes.
func ExampleSetCondition() {
	ctx := context.Background()
	st, databases, _, db := exampleStore(ctx)
	defer st.Close()
	for _, c := range []reconcile.Condition{
		{Status: reconcile.ConditionFalse, Reason: "Starting", Message: "waiting for the volume"},
		{Status: reconcile.ConditionFalse, Reason: "Starting", Message: "loading"},
		{Status: reconcile.ConditionTrue, Reason: "Serving"},
	} {
		var err error
		db, err = databases.Patch(ctx, store.KeyOf(db), func(db *Database) error {
			c.Type, c.ObservedGeneration = "Ready", db.Generation
			_, err := reconcile.SetCondition(&db.Status.Conditions, c)
			return err
		})
		if err != nil {
			log.Fatal(err)
		}
		ready, _ := reconcile.FindCondition(db.Status.Conditions, "Ready")
		fmt.Println(ready.Status, ready.Reason, ready.Message, reconcile.IsTrue(db.Status.Conditions, "Ready"))
	}
	// Output:
	// False Starting waiting for the volume false
	// False Starting loading false
	// True Serving  true
}

// Apply creates, or patches what differs; what others have set stays.
func ExampleApply() {
	ctx := context.Background()
	st, databases, volumes, db := exampleStore(ctx)
	defer st.Close()

	apply := func(size int) {
		v := newVolume("shop-0")
		v.Spec.Size = size
		if err := reconcile.SetController(volumes, v, databases, db); err != nil {
			log.Fatal(err)
		}
		done, err := reconcile.Apply(ctx, volumes, v)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s: size %d, class %q\n", done.Action, done.Diff, done.Object.Spec.Size, done.Object.Spec.Class)
	}
	apply(10)
	apply(10)
	_, err := volumes.Patch(ctx, store.NewKey("default", "shop-0"), func(v *Volume) error { v.Spec.Class = "fast"; return nil })
	if err != nil {
		log.Fatal(err)
	}
	apply(20)
	// Output:
	// created : size 10, class ""
	// unchanged : size 10, class ""
	// patched spec.size: 10 -> 20: size 20, class "fast"
}

// In a transaction, several objects are made so at one revision, or none.
func ExampleApplyIn() {
	ctx := context.Background()
	st, databases, volumes, db := exampleStore(ctx)
	defer st.Close()
	_, err := st.Txn(ctx, func(tx store.Tx) error {
		for i := range 3 {
			v := newVolume(fmt.Sprint("shop-", i))
			if err := reconcile.SetController(volumes, v, databases, db); err != nil {
				return err
			}
			if _, err := reconcile.ApplyIn(tx, volumes, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	for v, err := range volumes.List(ctx) {
		fmt.Println(v.Name, "at revision", v.ResourceVersion, err)
	}
	// Output:
	// shop-0 at revision 3 <nil>
	// shop-1 at revision 3 <nil>
	// shop-2 at revision 3 <nil>
}

func ExampleDiff() {
	before, after := newVolume("a"), newVolume("a")
	before.Spec.Size, after.Spec.Size = 10, 20
	after.Labels = map[string]string{"tier": "gold"}
	fmt.Println(reconcile.Diff(before, after))
	// Output:
	// metadata.labels[tier]: none -> "gold", spec.size: 10 -> 20
}

// Events tell people what happened; what happens again is counted.
func ExampleRecorder() {
	ctx := context.Background()
	st, databases, _, db := exampleStore(ctx)
	defer st.Close()
	events, err := store.Register(st, reconcile.EventKind())
	if err != nil {
		log.Fatal(err)
	}
	recorder := reconcile.NewRecorder(events, reconcile.RecorderOptions{Component: "database-controller"})
	for range 3 {
		recorder.Warning(databases.Schema(), db, "DiskFull", "%d%% used", 98)
	}
	if err := recorder.Close(ctx); err != nil { // writes what waits
		log.Fatal(err)
	}
	for e, err := range events.List(ctx, store.ListOptions{Fields: reconcile.EventsAbout(db.UID)}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Type, e.Reason, e.Message, "times", e.Count)
	}
	// Output:
	// Warning DiskFull 98% used times 3
}

// A collector deletes what has lost its last owner.
func ExampleCollector() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st, databases, volumes, db := exampleStore(ctx)
	defer st.Close()
	collector := reconcile.NewCollector(st, reconcile.CollectorOptions{})
	done := make(chan error)
	go func() { done <- collector.Run(ctx) }()

	v := newVolume("shop-0")
	if err := reconcile.SetController(volumes, v, databases, db); err != nil {
		log.Fatal(err)
	}
	if _, err := volumes.Create(ctx, v); err != nil {
		log.Fatal(err)
	}
	if _, err := databases.Delete(ctx, store.KeyOf(db)); err != nil {
		log.Fatal(err)
	}
	for {
		_, err := volumes.Get(ctx, store.KeyOf(v))
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Println("the volume has gone, too")
	cancel()
	fmt.Println(<-done)
	// Output:
	// the volume has gone, too
	// <nil>
}

// Deleted in the foreground, an object goes after its dependents.
func ExampleDeleteForeground() {
	ctx := context.Background()
	st, databases, _, db := exampleStore(ctx)
	defer st.Close()
	db, err := reconcile.DeleteForeground(ctx, databases, store.KeyOf(db))
	if err != nil {
		log.Fatal(err)
	}
	// From here on it is up to the collector.
	fmt.Println(reconcile.IsDeleted(databases.Schema(), db), db.Finalizers)
	// Output:
	// true [foregroundDeletion]
}

// An owner can go without its dependents: they live on, and refer to it no more.
func ExampleDeleteOrphan() {
	ctx := context.Background()
	st, databases, _, db := exampleStore(ctx)
	defer st.Close()
	db, err := reconcile.DeleteOrphan(ctx, databases, store.KeyOf(db))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reconcile.IsDeleted(databases.Schema(), db), db.Finalizers)
	// Output:
	// true [orphan]
}
