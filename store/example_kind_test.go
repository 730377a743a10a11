// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Hooks are part of the kind and run inside the transaction.
func ExampleKind() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{
		Name:         "Job",
		ValidateName: store.DNSLabel,
		Default: func(j *Job) {
			if !strings.Contains(j.Spec.Image, ":") {
				j.Spec.Image += ":latest"
			}
		},
		Validate: func(old, j *Job) error {
			if old != nil && old.Status.Phase == "Done" && j.Status.Phase != "Done" {
				return errors.New("status.phase: what is done stays done")
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	job, err := jobs.Create(ctx, NewJob("backup", "backup"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Spec.Image)

	for _, phase := range []string{"Done", "Running"} {
		_, err := jobs.Patch(ctx, store.KeyOf(job), func(j *Job) error { j.Status.Phase = phase; return nil })
		fmt.Println(err)
	}
	// Output:
	// backup:latest
	// <nil>
	// store: patch Job default/backup: invalid: status.phase: what is done stays done
}

// An immutable field keeps the value that it was created with.
func ExampleField() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{
		Name: "Job",
		Immutable: []store.Field[*Job]{
			{Name: "spec.image", Get: func(j *Job) any { return j.Spec.Image }},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	job, err := jobs.Create(ctx, NewJob("backup", "backup:v1"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = jobs.Patch(ctx, store.KeyOf(job), func(j *Job) error { j.Spec.Image = "backup:v2"; return nil })
	fmt.Println(err)
	// Output: store: patch Job default/backup: invalid: spec.image is immutable: it is backup:v1 and can't become backup:v2
}

// An object with finalizers is only marked when it is deleted. It goes when the
// last of them is removed.
func ExampleHandle_Delete() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	job := NewJob("backup", "backup:v1")
	job.Finalizers = []string{"example.com/unmount"}
	if _, err := jobs.Create(ctx, job); err != nil {
		log.Fatal(err)
	}
	marked, err := jobs.Delete(ctx, store.KeyOf(job))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("being deleted:", marked.DeletionTimestamp != nil)

	// Whoever unmounts the volumes does so now, and then lets go.
	if _, err := jobs.Patch(ctx, store.KeyOf(job), func(j *Job) error { j.Finalizers = nil; return nil }); err != nil {
		log.Fatal(err)
	}
	_, err = jobs.Get(ctx, store.KeyOf(job))
	fmt.Println(err)
	// Output:
	// being deleted: true
	// store: get Job default/backup: not found
}

// An owner reference is checked when it is written: kind, name and UID.
func ExampleOwnerReference() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job", Group: "example.com", Version: "v1"})
	if err != nil {
		log.Fatal(err)
	}
	owner, err := jobs.Create(ctx, NewJob("nightly", "backup:v1"))
	if err != nil {
		log.Fatal(err)
	}
	for _, uid := range []string{owner.UID, "another"} {
		job := NewJob("", "backup:v1")
		job.GenerateName = "nightly-"
		job.OwnerReferences = []store.OwnerReference{{
			APIVersion: "example.com/v1", Kind: "Job", Name: owner.Name, UID: uid, Controller: new(true),
		}}
		_, err := jobs.Create(ctx, job)
		fmt.Println(err == nil, errors.Is(err, store.ErrInvalid))
	}
	// Output:
	// true false
	// false true
}

// OldJob is how an earlier version of a program kept its jobs.
type OldJob struct {
	store.Meta
	Command string
}

func (j *OldJob) DeepCopy() *OldJob { return store.DeepCopy(j) }

// Objects that the store holds in an older Go type are converted when the kind is
// registered with the new one.
func ExampleRegister_convert() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	old, err := store.Register(st, store.Kind[*OldJob]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := old.Create(ctx, &OldJob{Meta: store.Meta{Namespace: "default", Name: "backup"}, Command: "backup"}); err != nil {
		log.Fatal(err)
	}
	if err := st.Unregister(old.Schema()); err != nil { // its objects stay
		log.Fatal(err)
	}
	jobs, err := store.Register(st, store.Kind[*Job]{
		Name: "Job",
		Convert: func(o store.Object) (*Job, error) {
			old, ok := o.(*OldJob)
			if !ok {
				return nil, store.Invalidf("a job was a %T", o)
			}
			return &Job{Meta: old.Clone(), Spec: JobSpec{Image: old.Command + ":v1"}}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	job, err := jobs.Get(ctx, store.NewKey("default", "backup"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Spec.Image, "version", job.ResourceVersion)
	// Output: backup:v1 version 2
}

// Several kinds may share one Go type, and kinds come and go at run time.
func ExampleLookup() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	for _, name := range []string{"Job", "CronJob"} {
		jobs, err := store.Register(st, store.Kind[*Job]{Name: name})
		if err != nil {
			log.Fatal(err)
		}
		if _, err := jobs.Create(ctx, NewJob("backup", name)); err != nil {
			log.Fatal(err)
		}
	}
	for _, kind := range st.Kinds() {
		jobs, err := store.Lookup[*Job](st, kind.KindName)
		if err != nil {
			log.Fatal(err)
		}
		job, err := jobs.Get(ctx, store.NewKey("default", "backup"))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(kind.KindName, job.Spec.Image)
	}
	// Output:
	// CronJob CronJob
	// Job Job
}

// Dump shows a person what a store in memory holds.
func ExampleStore_dump() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := jobs.Create(ctx, NewJob(name, "busybox")); err != nil {
			log.Fatal(err)
		}
	}
	if err := st.Dump(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// revision 3, oldest readable 1
	// kind Job (*store_test.Job): 2 objects, 2 events kept, 0 watchers asleep
	//   default/a @2
	//   default/b @3
}
