// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// The history window has bounds, and can be cut by hand; what has left it is
// ErrTooOld.
func ExampleCompactor() {
	ctx := context.Background()
	st := memory.New(memory.Options{History: store.History{Revisions: 1000, Age: time.Hour}})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := jobs.Create(ctx, NewJob(name, "backup:v1")); err != nil {
			log.Fatal(err)
		}
	}
	if err := st.Compact(ctx, 3); err != nil {
		log.Fatal(err)
	}
	oldest, latest, err := st.Window(ctx)
	fmt.Println("the window is", oldest, "to", latest, err)
	_, err = jobs.Page(ctx, store.ListOptions{ReadOptions: store.ReadOptions{Exact: 2}})
	fmt.Println(errors.Is(err, store.ErrTooOld), err)
	// Output:
	// the window is 3 to 4 <nil>
	// true store: list Job: revision is too old: asked for 2, the oldest is 3
}

// The generation counts changes of the spec, so that a controller can tell what
// its status is about.
func ExampleKind_generation() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	job, err := jobs.Create(ctx, NewJob("backup", "backup:v1"))
	if err != nil {
		log.Fatal(err)
	}
	changes := []func(*Job) error{
		func(j *Job) error { j.Status.Phase = "Running"; return nil },
		func(j *Job) error { j.Spec.Image = "backup:v2"; return nil },
		func(*Job) error { return nil }, // changes nothing: no new version
	}
	for _, change := range changes {
		if job, err = jobs.Patch(ctx, store.KeyOf(job), change); err != nil {
			log.Fatal(err)
		}
		fmt.Println("version", job.ResourceVersion, "generation", job.Generation)
	}
	// Output:
	// version 3 generation 1
	// version 4 generation 2
	// version 4 generation 2
}

// Who changes an object that the store shares is found out, in tests or where it
// is asked for.
func ExampleMutations() {
	ctx := context.Background()
	st := memory.New(memory.Options{Mutations: store.DetectAlways})
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	job, err := jobs.Create(ctx, NewJob("backup", "backup:v1"))
	if err != nil {
		log.Fatal(err)
	}
	job.Spec.Image = "backup:v2" // wrong: it is shared

	defer func() { fmt.Println(recover()) }()
	st.Close()
	// Output:
	// store: Job default/backup was changed outside of a write: Spec.Image: backup:v1 != backup:v2. Objects that a store hands out or takes over are shared: change a DeepCopy, or use Patch
}

// A quiet watch reports progress with bookmarks, if it is asked to: a place to
// resume from.
func ExampleHandle_Watch_bookmarks() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := jobs.Create(ctx, NewJob("backup", "backup:v1")); err != nil {
		log.Fatal(err)
	}
	for ev, err := range jobs.Watch(ctx, store.WatchOptions{Bookmarks: time.Millisecond}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.Type, ev.Revision)
		break
	}
	// Output: BOOKMARK 2
}
