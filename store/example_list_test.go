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

// An index finds objects by a value computed from them, without a scan.
func ExampleIndex() {
	byNode := store.NewIndex("spec.node", func(j *Job) string { return j.Spec.Node })
	byVolume := store.NewMultiIndex("spec.volumes", func(j *Job) []string { return j.Spec.Volumes })

	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{
		Name:    "Job",
		Indexes: []*store.Index[*Job]{byNode, byVolume},
	})
	if err != nil {
		log.Fatal(err)
	}
	for name, spec := range map[string]JobSpec{
		"a": {Node: "node-1", Volumes: []string{"logs", "data"}},
		"b": {Node: "node-2", Volumes: []string{"logs"}},
		"c": {Node: "node-1"},
	} {
		job := NewJob(name, "busybox")
		job.Spec = spec
		if _, err := jobs.Create(ctx, job); err != nil {
			log.Fatal(err)
		}
	}
	for _, fields := range []store.FieldSelector{
		byNode.Is("node-1"),
		byVolume.Is("logs"),
		byNode.Is("node-1").And(byVolume.Is("data")),
	} {
		fmt.Print(fields, ":")
		for job, err := range jobs.List(ctx, store.ListOptions{Fields: fields}) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Print(" ", job.Name)
		}
		fmt.Println()
	}
	// Output:
	// spec.node=node-1: a c
	// spec.volumes=logs: a b
	// spec.node=node-1,spec.volumes=data: a
}

// Field selectors have Kubernetes' text syntax, and name the kind's indexes.
func ExampleParseFieldSelector() {
	byNode := store.NewIndex("spec.node", func(j *Job) string { return j.Spec.Node })

	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job", Indexes: []*store.Index[*Job]{byNode}})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := jobs.Create(ctx, NewJob(name, "busybox")); err != nil {
			log.Fatal(err)
		}
	}
	fields, err := store.ParseFieldSelector("metadata.name!=b,spec.node=")
	if err != nil {
		log.Fatal(err)
	}
	for job, err := range jobs.List(ctx, store.ListOptions{Fields: fields}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(job.Name)
	}
	_, err = store.ParseFieldSelector("metadata.name")
	fmt.Println(err)
	// Output:
	// a
	// c
	// invalid: field selector "metadata.name": at position 13: want '=', '==' or '!=' after "metadata.name"
}

// Label selectors have Kubernetes' text syntax.
func ExampleParseSelector() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	for name, labels := range map[string]map[string]string{
		"a": {"team": "search", "env": "prod"},
		"b": {"team": "search", "env": "test"},
		"c": {"env": "prod", "legacy": ""},
	} {
		job := NewJob(name, "busybox")
		job.Labels = labels
		if _, err := jobs.Create(ctx, job); err != nil {
			log.Fatal(err)
		}
	}
	for _, text := range []string{"team=search", "env in (prod,qa),!legacy", "team"} {
		labels, err := store.ParseSelector(text)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(text, ":")
		for job, err := range jobs.List(ctx, store.ListOptions{Labels: labels}) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Print(" ", job.Name)
		}
		fmt.Println()
	}
	_, err = store.ParseSelector("env in prod")
	fmt.Println(err)
	// Output:
	// team=search: a b
	// env in (prod,qa),!legacy: a
	// team: a b
	// invalid: label selector "env in prod": at position 7: want '(', got "prod"
}

// The pages of a list come from one revision, whatever is written meanwhile.
func ExampleHandle_Page() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if _, err := jobs.Create(ctx, NewJob(name, "busybox")); err != nil {
			log.Fatal(err)
		}
	}
	opts := store.ListOptions{Limit: 2}
	for {
		page, err := jobs.Page(ctx, opts)
		if err != nil {
			log.Fatal(err)
		}
		for _, job := range page.Items {
			fmt.Print(job.Name, " ")
		}
		fmt.Println("at revision", page.Revision, "remaining", page.Remaining)
		if page.Continue == "" {
			break
		}
		opts.Continue = page.Continue
		if _, err := jobs.Delete(ctx, store.KeyOf(page.Items[0])); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// a b at revision 6 remaining 3
	// c d at revision 6 remaining 1
	// e at revision 6 remaining 0
}

// A read can ask for the state at a past revision, as long as that is inside the
// history window.
func ExampleReadOptions() {
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
	before, err := store.RevisionOf(job)
	if err != nil {
		log.Fatal(err)
	}
	key := store.KeyOf(job)
	if _, err := jobs.Patch(ctx, key, func(j *Job) error { j.Spec.Image = "backup:v2"; return nil }); err != nil {
		log.Fatal(err)
	}
	if job, err = jobs.Get(ctx, key, store.ReadOptions{Exact: before}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Spec.Image)

	if err := st.Compact(ctx, before+1); err != nil { // forget what was before
		log.Fatal(err)
	}
	_, err = jobs.Get(ctx, key, store.ReadOptions{Exact: before})
	fmt.Println(errors.Is(err, store.ErrTooOld), err)
	// Output:
	// backup:v1
	// true store: get Job default/backup: revision is too old: asked for 2, the oldest is 3
}
