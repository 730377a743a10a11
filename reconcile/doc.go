// SPDX-License-Identifier: Apache-2.0

// Package reconcile runs controllers: functions that make the world as an object
// says it should be, called again whenever something that they depend on changes.
//
//	st := memory.New(memory.Options{})
//	m := reconcile.NewManager(st, reconcile.ManagerOptions{})
//	deployments, err := store.Register(m.Store(), store.Kind[*Deployment]{Name: "Deployment"})
//	pods, err := store.Register(m.Store(), store.Kind[*Pod]{Name: "Pod"})
//
//	_, err = reconcile.New(m, "deployment", func(ctx context.Context, key store.Key) reconcile.Result {
//		d, err := deployments.Get(ctx, key)
//		if errors.Is(err, store.ErrNotFound) {
//			return reconcile.Done()
//		}
//		… make pods what d asks for, with pods.List, pods.Create, pods.Delete …
//		return reconcile.OK(err)
//	}, reconcile.Options[store.Key]{Workers: 8},
//		reconcile.For(deployments), reconcile.Owns(pods, deployments))
//
//	err = m.Run(ctx)
//
// # Concepts
//
// A [Controller] is a function of a key. It is not told what changed: it looks at
// how things are, does what is missing, and returns a [Result] that says when to
// look again. Whatever it missed while it did not run, it sees then.
//
// A [Trigger] turns the changes of objects into keys: [For] the objects themselves,
// [Owns] those that they own, [Watches] any others, by a function. A [Predicate]
// leaves out changes that don't matter.
//
// A [Queue] holds the keys that are to be worked on, each once, with its causes. It
// is also there for programs of one's own.
//
// A [Manager] runs the informers that the triggers share and then the controllers;
// on one replica of several ([ElectorOptions]), or with the keys divided among
// them ([SharderOptions]).
//
// # What a reconcile reads and writes
//
// Controllers use handles that are bound to [Manager.Store]. With the context of a
// reconcile, reads see one state of all kinds: no older than the change that
// triggered it, nor than anything that the controller wrote before, in whichever
// reconcile. There is no cache that lags behind one's own writes, and so nothing
// to be expected or remembered. A write moves the view on: the reads after it see
// a state that has it. A transaction ([store.Transactor]) reads the state that its
// commit validates.
//
// Where stores have no revision over all kinds (a remote API server), each kind is
// read at a revision of its own.
//
// # What every controller needs
//
// [Apply] makes an object as it should be, and writes only what differs. [Finalize]
// is a finalizer's whole life. [SetController] says who owns an object, and a
// [Collector] deletes what has lost its owners. [SetCondition] keeps conditions in
// Kubernetes' form, and a [Recorder] writes events that do not flood the store. All
// of them work with Kubernetes' own types as with one's own.
//
// # Ordering and concurrency
//
// One key is worked on by one worker at a time, in this process, and by one
// replica, as long as the clocks of all run at about the same speed; what a replica
// that was paused for longer than its lease writes then is refused by the store,
// where it is a [store.Leaser]. Different keys have no order; among those that are
// ready, the higher priority and the longer wait count, and tenants take turns.
//
// Functions run in the goroutines of [Manager.Run], which waits for them.
//
// A change is not a message: between two looks an object may have come and gone.
// What has to be done when an object goes needs a finalizer ([Finalize]).
//
// # Errors
//
// A reconcile that fails is tried again, later each time; see [Result]. A panic is
// a failure. What no caller can be told goes to ManagerOptions.Logger and
// [Hooks]. [Controller.Explain] answers why a key was run, and why it is not.
//
// A source that fails (a kind that can't be listed) holds up the controllers that
// depend on it, and no others; [Manager.Ready] says so.
//
// # Testing
//
// Everything runs under testing/synctest. Package reconciletest runs controllers in
// virtual time and makes each of their calls fail in turn.
package reconcile
