// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Job is what the examples of this package keep: an object is a type that embeds
// store.Meta and can copy itself.
type Job struct {
	store.Meta `json:"metadata"`
	Spec       JobSpec   `json:"spec"`
	Status     JobStatus `json:"status,omitzero"`
}

type JobSpec struct {
	Image   string   `json:"image"`
	Node    string   `json:"node,omitempty"`
	Volumes []string `json:"volumes,omitempty"`
}

type JobStatus struct {
	Phase string `json:"phase,omitempty"`
}

func (j *Job) DeepCopy() *Job { return store.DeepCopy(j) }

// NewJob returns a job in the namespace "default".
func NewJob(name, image string) *Job {
	return &Job{
		Meta: store.Meta{Namespace: "default", Name: name},
		Spec: JobSpec{Image: image},
	}
}

func Example() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	created, err := jobs.Create(ctx, NewJob("backup", "backup:v1"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("created at version", created.ResourceVersion)
	for job, err := range jobs.List(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(store.KeyOf(job), job.Spec.Image)
	}
	// Output:
	// created at version 2
	// default/backup backup:v1
}

// A handle is typed: what it takes and gives are jobs, not interfaces.
func ExampleHandle() {
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
	job, err := jobs.Get(ctx, store.NewKey("default", "backup"))
	if err != nil {
		log.Fatal(err)
	}
	next := job.DeepCopy() // what a store returns is shared
	next.Spec.Image = "backup:v2"
	if job, err = jobs.Update(ctx, next); err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Spec.Image, "generation", job.Generation, "version", job.ResourceVersion)

	if _, err := jobs.Delete(ctx, store.KeyOf(job)); err != nil {
		log.Fatal(err)
	}
	_, err = jobs.Get(ctx, store.KeyOf(job))
	fmt.Println(err)
	fmt.Println(errors.Is(err, store.ErrNotFound))
	// Output:
	// backup:v2 generation 2 version 3
	// store: get Job default/backup: not found
	// true
}

// Generation counts the changes of the spec; the version counts all of them. A
// write that changes nothing keeps both.
func ExampleHandle_Patch() {
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
	for _, change := range []func(*Job){
		func(j *Job) { j.Spec.Node = "node-1" },
		func(j *Job) { j.Status.Phase = "Running" },
		func(j *Job) { j.Status.Phase = "Running" },
	} {
		// The function gets a copy of the present job, and runs again on a newer
		// one if another writer was faster.
		job, err := jobs.Patch(ctx, store.NewKey("default", "backup"), func(j *Job) error {
			change(j)
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("generation", job.Generation, "version", job.ResourceVersion)
	}
	// Output:
	// generation 2 version 3
	// generation 2 version 4
	// generation 2 version 4
}

// A write may demand a version, or the UID that tells an object from a later one
// of the same name.
func ExampleWriteOptions() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	first, err := jobs.Create(ctx, NewJob("backup", "backup:v1"))
	if err != nil {
		log.Fatal(err)
	}
	key := store.KeyOf(first)
	if _, err := jobs.Patch(ctx, key, func(j *Job) error { j.Spec.Node = "node-1"; return nil }); err != nil {
		log.Fatal(err)
	}

	// An update demands the version in the object: the job has changed since.
	stale := first.DeepCopy()
	stale.Spec.Image = "backup:v2"
	_, err = jobs.Update(ctx, stale)
	fmt.Println(err)

	// Any write can demand one; delete only the very job that was created here.
	_, err = jobs.Delete(ctx, key, store.WriteOptions{ResourceVersion: first.ResourceVersion})
	fmt.Println(errors.Is(err, store.ErrConflict))
	_, err = jobs.Delete(ctx, key, store.WriteOptions{UID: first.UID})
	fmt.Println(err)
	// Output:
	// store: update Job default/backup: conflict: the write demands resource version 2, the object has 3
	// true
	// <nil>
}
