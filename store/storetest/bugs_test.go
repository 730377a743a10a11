// SPDX-License-Identifier: Apache-2.0

package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/storetest"
)

// bug is a way to break the contract, and the promise whose test must catch it.
type bug struct {
	name   string
	caught string // the sub-test of Run
	plant  func(*broken)
}

// bugVariable names the bug to TestBrokenEngine.
const bugVariable = "STORETEST_BUG"

// TestBrokenEngine runs the suite on an engine with one bug. It fails, which is
// why TestCatchesEachBug runs it in a process of its own.
func TestBrokenEngine(t *testing.T) {
	name := os.Getenv(bugVariable)
	if name == "" {
		t.Skip("run by TestCatchesEachBug")
	}
	i := slices.IndexFunc(bugs(), func(b bug) bool { return b.name == name })
	if i < 0 {
		t.Skipf("no bug %q", name)
	}
	storetest.Run(t, func(*testing.T) store.Store { return newBroken(bugs()[i]) }, storetest.Options{})
}

// TestCatchesEachBug proves that the suite can fail: for each bug the test of the
// promise that it breaks does.
func TestCatchesEachBug(t *testing.T) {
	for _, b := range bugs() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			pattern := "^TestBrokenEngine$"
			for part := range strings.SplitSeq(b.caught, "/") {
				pattern += "/^" + part + "$"
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+pattern, "-test.v", "-test.timeout=100s")
			cmd.Env = append(os.Environ(), bugVariable+"="+b.name)
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
				t.Fatal(err)
			}
			if !bytes.Contains(out, []byte("--- FAIL: TestBrokenEngine/"+b.caught+" ")) {
				t.Errorf("%s does not catch it:\n%s", b.caught, out)
			}
		})
	}
}

func bugs() []bug {
	return slices.Concat(watchBugs(), readBugs(), writeBugs(), txnBugs(), leaseBugs(), otherBugs())
}

// Watches.

// events plants a function that delivers each event of a watch: n counts those
// that are changes.
func events(deliver func(n int, ev change, o store.WatchOptions, yield func(change) bool) bool) func(*broken) {
	return func(e *broken) {
		e.watch = func(ctx context.Context, s *store.Schema, o store.WatchOptions) iter.Seq2[change, error] {
			return func(yield func(change, error) bool) {
				n := 0
				pass := func(ev change) bool { return yield(ev, nil) }
				for ev, err := range e.Store.Watch(ctx, s, o) {
					if err != nil {
						yield(ev, err)
						return
					}
					if ev.Object != nil {
						n++
					}
					if !deliver(n, ev, o, pass) {
						return
					}
				}
			}
		}
	}
}

// asking plants a function that changes what a watch asks for.
func asking(change func(e *broken, o *store.WatchOptions)) func(*broken) {
	return func(e *broken) {
		e.watch = func(ctx context.Context, s *store.Schema, o store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
			return func(yield func(store.Event[store.Object], error) bool) {
				change(e, &o)
				e.Store.Watch(ctx, s, o)(yield)
			}
		}
	}
}

// ending plants a function that may go on where a watch ended with an error.
func ending(again func(e *broken, err error, o *store.WatchOptions) (anew bool, as error)) func(*broken) {
	return func(e *broken) {
		e.watch = func(ctx context.Context, s *store.Schema, o store.WatchOptions) iter.Seq2[change, error] {
			return func(yield func(change, error) bool) {
				for anew := true; anew; {
					anew = false
					for ev, err := range e.Store.Watch(ctx, s, o) {
						if err != nil {
							if anew, err = again(e, err, &o); anew {
								break
							}
						}
						if !yield(ev, err) {
							return
						}
					}
				}
			}
		}
	}
}

func isChange(ev change) bool { return ev.Object != nil }

func watchBugs() []bug {
	return []bug{
		{"an event is dropped", "Concurrent/Reliable", events(func(n int, ev change, _ store.WatchOptions, yield func(change) bool) bool {
			return isChange(ev) && n%25 == 0 && !isEnd(ev) || yield(ev)
		})},
		{"an event comes twice", "Concurrent/Unique", events(func(n int, ev change, _ store.WatchOptions, yield func(change) bool) bool {
			return yield(ev) && (!isChange(ev) || n%25 != 0 || yield(ev))
		})},
		{"a transaction is split", "Concurrent/Atomic", events(func(_ int, ev change, o store.WatchOptions, yield func(change) bool) bool {
			ev.Last = true
			return yield(ev)
		})},
		{"a transaction has no end", "Watch/TransactionBoundaries", events(func(_ int, ev change, o store.WatchOptions, yield func(change) bool) bool {
			ev.Last = ev.Last && !isChange(ev)
			return yield(ev)
		})},
		{"events change places", "Concurrent/Ordered", reorder},
		{"resumes one late", "Concurrent/Resumable", asking(func(e *broken, o *store.WatchOptions) {
			if o.From != 0 && o.From < e.now() {
				o.From++
			}
		})},
		{"resumes one early", "Watch/Resumes", asking(func(_ *broken, o *store.WatchOptions) {
			if o.From > 2 {
				o.From--
			}
		})},
		{"a bookmark is ahead", "Concurrent/Bookmarked", events(func(_ int, ev change, o store.WatchOptions, yield func(change) bool) bool {
			if o.Bookmarks > 0 && isChange(ev) && !yield(change{Type: store.Bookmark, Revision: ev.Revision, Last: true}) {
				return false
			}
			return yield(ev)
		})},
		{"a bookmark to resume from is ahead", "Watch/BookmarkIsAPlaceToResume", events(func(_ int, ev change, o store.WatchOptions, yield func(change) bool) bool {
			if ev.Type == store.Bookmark {
				ev.Revision++
			}
			return yield(ev)
		})},
		{"no bookmarks", "Watch/Bookmarks", asking(func(_ *broken, o *store.WatchOptions) { o.Bookmarks = 0 })},
		{"bookmarks wait for events", "Watch/BookmarksPassWhatIsFilteredOut", events(func(n int, ev change, o store.WatchOptions, yield func(change) bool) bool {
			return n == 0 && ev.Type == store.Bookmark || yield(ev)
		})},
		{"a watch of the future waits in silence", "Watch/FutureIsRefused", asking(func(e *broken, o *store.WatchOptions) {
			if o.From > e.now() {
				o.From = 0
			}
		})},
		{"a watch from too long ago begins later", "Window/WatchFromBeforeIsTooOld", asking(func(e *broken, o *store.WatchOptions) {
			if oldest, _, err := e.Window(context.Background()); err == nil && o.From != 0 && o.From < oldest {
				o.From = oldest
			}
		})},
		{"a slow watcher goes on with a gap", "Concurrent/SlowWatchersHaveNoGap", ending(goOnWithGap)},
		{"a slow watcher is not told", "Window/SlowWatcherIsTold", ending(goOnWithGap)},
		{"leaving a selector is not told", "Watch/LabelsEnterAndLeave", events(func(_ int, ev change, _ store.WatchOptions, yield func(change) bool) bool {
			return ev.Type == store.Deleted && ev.Object.GetResourceVersion() != store.FormatRevision(ev.Revision) || yield(ev)
		})},
		{"entering a selector is a modification", "Watch/FieldsEnterAndLeave", events(func(_ int, ev change, _ store.WatchOptions, yield func(change) bool) bool {
			if ev.Type == store.Added && ev.Old != nil {
				ev.Type = store.Modified
			}
			return yield(ev)
		})},
		{"the namespace of a watch is ignored", "Watch/Scope", asking(func(_ *broken, o *store.WatchOptions) { o.Namespace = "" })},
		{"a change of UID is hidden", "Txn/DeleteAndCreateShowsBoth", hideUID},
		{"the initial state has no end", "Watch/Initial", events(func(_ int, ev change, _ store.WatchOptions, yield func(change) bool) bool {
			return ev.Type == store.Synced || yield(ev)
		})},
		{"changes while the initial state is read are lost", "Watch/InitialThenChanges", tornInitial},
		{"the initial state is of several revisions", "Concurrent/InitialStateIsOfOneRevision", func(e *broken) {
			events(func(_ int, ev change, _ store.WatchOptions, yield func(change) bool) bool {
				if ev.Type == store.Synced {
					ev.Revision += 7
				}
				return yield(ev)
			})(e)
		}},
		{"a removal has the version before", "Watch/Events", events(func(_ int, ev change, _ store.WatchOptions, yield func(change) bool) bool {
			if ev.Type == store.Deleted && ev.Old != nil {
				ev.Object = ev.Old
			}
			return yield(ev)
		})},
		{"the context's cause is lost", "Watch/ContextCause", ending(func(_ *broken, err error, _ *store.WatchOptions) (bool, error) {
			return false, context.Canceled
		})},
		{"watches of a kind that goes just end", "Kind/UnregisteredEndsWatches", ending(func(_ *broken, err error, _ *store.WatchOptions) (bool, error) {
			if errors.Is(err, store.ErrUnknownKind) {
				err = context.Canceled
			}
			return false, err
		})},
	}
}

func isEnd(ev change) bool { return ev.Object.GetName() == "end" }

func goOnWithGap(e *broken, err error, o *store.WatchOptions) (bool, error) {
	if errors.Is(err, store.ErrTooOld) {
		o.From, o.Initial = e.now(), false
		return true, nil
	}
	return false, err
}

// reorder holds back some events that are transactions of their own.
func reorder(e *broken) {
	e.watch = func(ctx context.Context, s *store.Schema, o store.WatchOptions) iter.Seq2[change, error] {
		return func(yield func(change, error) bool) {
			var held *change
			n := 0
			for ev, err := range e.Store.Watch(ctx, s, o) {
				if n++; err == nil && n%10 == 0 && held == nil && isChange(ev) && !isEnd(ev) {
					held = &ev
					continue
				}
				if held != nil && isChange(ev) && isEnd(ev) && !yield(*held, nil) {
					return
				}
				if !yield(ev, err) || held != nil && !yield(*held, nil) {
					return
				}
				held = nil
			}
		}
	}
}

func hideUID(e *broken) {
	var held *change
	events(func(_ int, ev change, _ store.WatchOptions, yield func(change) bool) bool {
		if ev.Type == store.Deleted && !ev.Last {
			held = &ev
			return true
		}
		if held != nil && ev.Type == store.Added && ev.Object.GetName() == held.Object.GetName() {
			ev.Type, ev.Old = store.Modified, held.Old
		}
		held = nil
		return yield(ev)
	})(e)
}

// tornInitial lists the present, and then watches from what is present by then.
func tornInitial(e *broken) {
	e.watch = func(ctx context.Context, s *store.Schema, o store.WatchOptions) iter.Seq2[change, error] {
		return func(yield func(change, error) bool) {
			if o.Initial {
				for ev, err := range e.Store.Watch(ctx, s, o) {
					if !yield(ev, err) || err != nil {
						return
					}
					if ev.Type == store.Synced {
						break
					}
				}
				o.Initial, o.From = false, e.now()
			}
			e.Store.Watch(ctx, s, o)(yield)
		}
	}
}

// Reads.

func readBugs() []bug {
	return []bug{
		{"a read is stale", "Read/SeesTheWriteBefore", stale(1)},
		{"some reads are stale", "Linearizable/SingleObjects", stale(7)},
		{"lists are stale", "Linearizable/Lists", func(e *broken) {
			e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
				if old := e.now() - 1; o.Exact == 0 && o.Continue == "" && old > 1 {
					if meta, err := e.Store.List(ctx, s, at(o, old), yield); err == nil {
						return meta, nil
					}
				}
				return e.Store.List(ctx, s, o, yield)
			}
		}},
		{"an exact read returns the latest", "Read/Exact", func(e *broken) {
			e.get = func(ctx context.Context, s *store.Schema, k store.Key, _ store.ReadOptions) (store.Object, error) {
				return e.Store.Get(ctx, s, k, store.ReadOptions{})
			}
		}},
		{"an exact list selects by the latest", "Read/ExactList", selectByLatest},
		{"some exact reads are one revision off", "Model/RandomOperations", func(e *broken) {
			e.get = func(ctx context.Context, s *store.Schema, k store.Key, o store.ReadOptions) (store.Object, error) {
				if o.Exact > 2 && o.Exact%8 == 0 {
					o.Exact--
				}
				return e.Store.Get(ctx, s, k, o)
			}
		}},
		{"at least is ignored", "Read/FutureIsRefused", func(e *broken) {
			e.get = func(ctx context.Context, s *store.Schema, k store.Key, o store.ReadOptions) (store.Object, error) {
				return e.Store.Get(ctx, s, k, store.ReadOptions{Exact: o.Exact})
			}
		}},
		{"a list is of several revisions", "List/OneRevision", func(e *broken) {
			e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
				return e.Store.List(ctx, s, o, func(obj store.Object) bool {
					runtime.Gosched()
					now, err := e.Store.Get(ctx, s, store.KeyOf(obj), store.ReadOptions{})
					return err != nil || yield(now)
				})
			}
		}},
		{"a page is of another revision", "List/PagesAreOfOneRevision", pageOfLatest},
		{"pages of a moving list", "List/PagesUnderWrites", pageOfLatest},
		{"a token that was changed is taken for none", "List/TokenIsChecked", func(e *broken) {
			e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
				meta, err := e.Store.List(ctx, s, o, yield)
				if errors.Is(err, store.ErrInvalid) && o.Continue != "" {
					o.Continue = ""
					return e.Store.List(ctx, s, o, yield)
				}
				return meta, err
			}
		}},
		{"lists are not ordered", "List/OrderedByKey", collected(func(all []store.Object) []store.Object {
			slices.Reverse(all)
			return all
		})},
		{"an object is listed twice", "List/MultiIndex", collected(func(all []store.Object) []store.Object {
			if len(all) > 0 {
				all = append(all, all[len(all)-1])
			}
			return all
		})},
		{"of two selectors one counts", "List/Fields", func(e *broken) {
			e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
				if len(o.Fields) > 0 {
					o.Fields = o.Fields[:1]
				}
				return e.Store.List(ctx, s, o, yield)
			}
		}},
		{"an index lags behind", "List/IndexFollowsChanges", func(e *broken) {
			e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
				if old := e.now() - 1; len(o.Fields) > 0 && old > 1 {
					o.Exact = old
				}
				return e.Store.List(ctx, s, o, yield)
			}
		}},
		{"a snapshot moves", "Snapshot/StaysAsItIs", movingSnapshot},
		{"a snapshot is not joint", "Snapshot/IsJoint", movingSnapshot},
	}
}

// stale makes one of n gets read the revision before the latest.
func stale(n int64) func(*broken) {
	return func(e *broken) {
		var count atomic.Int64
		e.get = func(ctx context.Context, s *store.Schema, k store.Key, o store.ReadOptions) (store.Object, error) {
			if old := e.now() - 1; o == (store.ReadOptions{}) && old > 1 && count.Add(1)%n == 0 {
				if obj, err := e.Store.Get(ctx, s, k, store.ReadOptions{Exact: old}); err == nil {
					return obj, nil
				}
			}
			return e.Store.Get(ctx, s, k, o)
		}
	}
}

func at(o store.ListOptions, revision uint64) store.ListOptions {
	o.ReadOptions = store.ReadOptions{Exact: revision}
	return o
}

func selectByLatest(e *broken) {
	e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
		if o.Exact == 0 {
			return e.Store.List(ctx, s, o, yield)
		}
		latest := o
		latest.ReadOptions = store.ReadOptions{}
		meta, err := e.Store.List(ctx, s, latest, func(obj store.Object) bool {
			old, err := e.Store.Get(ctx, s, store.KeyOf(obj), o.ReadOptions)
			return err != nil || yield(old)
		})
		meta.Revision = o.Exact
		return meta, err
	}
}

// pageOfLatest takes each page after the first from the latest state.
func pageOfLatest(e *broken) {
	var mu sync.Mutex
	last := map[string]store.Key{} // the end of the page, by its token
	e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
		mu.Lock()
		after, known := last[o.Continue]
		mu.Unlock()
		var end store.Key
		see := func(obj store.Object) bool {
			end = store.KeyOf(obj)
			return yield(obj)
		}
		token := o.Continue
		var meta store.ListMeta
		var err error
		if token != "" && known {
			meta, err = e.Store.List(ctx, s, o, func(obj store.Object) bool { return true })
			n, all := 0, o
			all.Continue, all.Limit = "", 0
			if err == nil {
				_, err = e.Store.List(ctx, s, all, func(obj store.Object) bool {
					if store.KeyOf(obj).Compare(after) <= 0 {
						return true
					}
					if n++; o.Limit > 0 && n > o.Limit {
						return false
					}
					return see(obj)
				})
			}
		} else {
			meta, err = e.Store.List(ctx, s, o, see)
		}
		mu.Lock()
		defer mu.Unlock()
		last[meta.Continue] = end
		return meta, err
	}
}

// collected plants a function that changes what every list returns.
func collected(change func([]store.Object) []store.Object) func(*broken) {
	return func(e *broken) {
		e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
			var all []store.Object
			meta, err := e.Store.List(ctx, s, o, func(obj store.Object) bool {
				all = append(all, obj)
				return true
			})
			for _, obj := range change(all) {
				if !yield(obj) {
					break
				}
			}
			return meta, err
		}
	}
}

// latest is a snapshot that shows the present.
type latest struct {
	e   *broken
	rev uint64
}

func (l latest) Revision() uint64 { return l.rev }

func (l latest) Get(s *store.Schema, k store.Key) (store.Object, error) {
	runtime.Gosched()
	return l.e.Store.Get(context.Background(), s, k, store.ReadOptions{})
}

func (l latest) List(s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	return l.e.Store.List(context.Background(), s, o, yield)
}

func movingSnapshot(e *broken) {
	e.snapshot = func(context.Context, store.ReadOptions) (store.Snapshot, error) { return latest{e, e.now()}, nil }
}

// Writes.

// writing plants a function that changes each write before it is carried out.
func writing(change func(*store.Write)) func(*broken) {
	return func(e *broken) {
		e.write = func(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
			change(&w)
			return e.Store.Write(ctx, s, w)
		}
	}
}

// schemas plants a function that changes each kind that is registered.
func schemas(change func(*store.Schema)) func(*broken) {
	return func(e *broken) {
		e.register = func(s *store.Schema) error {
			change(s)
			return e.Store.Register(s)
		}
	}
}

// unversioned takes the version from an object to update.
func unversioned(w *store.Write) {
	w.Options.ResourceVersion = ""
	if o, ok := w.Object.(interface{ DeepCopyObject() store.Object }); ok && w.Op == store.Update {
		w.Object = o.DeepCopyObject()
	}
	if w.Op == store.Update && w.Object != nil {
		w.Object.SetResourceVersion("")
	}
}

func writeBugs() []bug {
	return []bug{
		{"an update is lost", "Update/StaleVersionConflicts", writing(unversioned)},
		{"an update is lost among clients", "Linearizable/SingleObjects", writing(unversioned)},
		{"the version of a model's write is ignored", "Model/RandomOperations", writing(unversioned)},
		{"the UID is not checked", "Update/OptionsDemandToo", writing(func(w *store.Write) { w.Options.UID = "" })},
		{"a write that changes nothing makes a version", "Update/NoChangeKeepsVersion", bumps},
		{"a write that changes nothing wakes watchers", "Update/NoChangeWakesNoOne", bumps},
		{"a patch is not run again", "Patch/RetriesOnConflict", patchOnce},
		{"a patch that fails takes effect", "Patch/ErrorHasNoEffect", func(e *broken) {
			e.write = func(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
				var failed error
				if f := w.Patch; f != nil {
					w.Patch = func(o store.Object) error {
						failed = f(o)
						return nil
					}
				}
				o, err := e.Store.Write(ctx, s, w)
				return o, errors.Join(err, failed)
			}
		}},
		{"a create replaces", "Create/AlreadyExists", func(e *broken) {
			e.write = func(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
				o, err := e.Store.Write(ctx, s, w)
				if errors.Is(err, store.ErrAlreadyExists) {
					w.Op = store.Update
					return e.Store.Write(ctx, s, w)
				}
				return o, err
			}
		}},
		{"what is written is shared with the caller", "Create/KeepsACopy", writing(func(w *store.Write) { w.Options.TakeOver = true })},
		{"generated names meet", "Create/GeneratesNames", writing(func(w *store.Write) {
			if w.Op == store.Create && w.Object != nil && w.Object.GetName() == "" {
				w.Object.SetName(w.Object.GetGenerateName() + "1")
			}
		})},
		{"finalizers are ignored", "Delete/FinalizersMark", func(e *broken) {
			e.write = func(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
				if w.Op == store.Delete {
					_, _ = e.Store.Write(ctx, s, store.Write{Op: store.Patch, Key: w.Key, Patch: func(o store.Object) error {
						o.SetFinalizers(nil)
						return nil
					}})
				}
				return e.Store.Write(ctx, s, w)
			}
		}},
		{"generation counts every change", "Update/GenerationCountsSpec", schemas(func(s *store.Schema) {
			s.SameSpec = func(store.Object, store.Object) bool { return false }
		})},
		{"hooks are not called", "Hook/Validate", schemas(func(s *store.Schema) { s.Prepare = func(_, _ store.Object) error { return nil } })},
		{"defaults are not set", "Hook/Default", schemas(func(s *store.Schema) { s.Prepare = func(_, _ store.Object) error { return nil } })},
		{"immutable fields change", "Hook/Immutable", schemas(func(s *store.Schema) {
			prepare := s.Prepare
			s.Prepare = func(_, o store.Object) error { return prepare(nil, o) }
		})},
		{"a hook's panic comes out", "Hook/PanicIsAnError", schemas(func(s *store.Schema) {
			prepare := s.Prepare
			s.Prepare = func(old, o store.Object) error {
				err := prepare(old, o)
				if errors.Is(err, store.ErrHookPanic) {
					panic(err)
				}
				return err
			}
		})},
		{"owners are not checked", "Owner/MustExist", schemas(func(s *store.Schema) { s.DanglingOwners = true })},
		{"names are not checked", "BadInput/Names", writing(func(w *store.Write) {
			if w.Object != nil && strings.Contains(w.Object.GetName(), "%") {
				w.Object.SetName(strings.ReplaceAll(w.Object.GetName(), "%", "-"))
			}
		})},
	}
}

// bumps makes each update and patch change something.
func bumps(e *broken) {
	n := 0
	e.write = func(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
		touch := func(o store.Object) {
			n++
			o.SetAnnotations(map[string]string{"written": store.FormatRevision(uint64(n))})
		}
		if f := w.Patch; f != nil {
			w.Patch = func(o store.Object) error {
				touch(o)
				return f(o)
			}
		} else if w.Op == store.Update {
			touch(w.Object)
		}
		return e.Store.Write(ctx, s, w)
	}
}

// patchOnce patches what was read, and writes it whatever has come in between.
func patchOnce(e *broken) {
	e.write = func(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
		if w.Op != store.Patch || w.Patch == nil {
			return e.Store.Write(ctx, s, w)
		}
		base, err := e.Store.Get(ctx, s, w.Key, store.ReadOptions{})
		if err != nil {
			return nil, err
		}
		o := s.Copy(base)
		if err := w.Patch(o); err != nil {
			return nil, err
		}
		time.Sleep(time.Microsecond)
		o.SetResourceVersion("")
		return e.Store.Write(ctx, s, store.Write{Op: store.Update, Object: o, Options: w.Options})
	}
}

// Transactions.

// inTxn plants a function that replaces methods of each transaction.
func inTxn(replace func(e *broken, x *brokenTx)) func(*broken) {
	return func(e *broken) {
		e.begin = func(tx store.Tx) store.Tx {
			x := &brokenTx{Tx: tx}
			replace(e, x)
			return x
		}
	}
}

func readAside(e *broken, x *brokenTx) {
	snap, err := e.Store.Snapshot(context.Background(), store.ReadOptions{})
	if err == nil {
		x.get = snap.Get
	}
}

func listAside(e *broken, x *brokenTx) {
	snap, err := e.Store.Snapshot(context.Background(), store.ReadOptions{})
	if err == nil {
		x.list = snap.List
	}
}

func txnBugs() []bug {
	ctx := context.Background()
	return []bug{
		{"a transaction is torn", "Txn/OneRevision", inTxn(func(e *broken, x *brokenTx) {
			x.write = func(s *store.Schema, w store.Write) (store.Object, error) { return e.Store.Write(ctx, s, w) }
		})},
		{"others see half of a transaction", "Txn/TransfersKeepTheSum", inTxn(func(e *broken, x *brokenTx) {
			x.write = func(s *store.Schema, w store.Write) (store.Object, error) { return e.Store.Write(ctx, s, w) }
		})},
		{"a transaction that fails takes effect", "Txn/ErrorHasNoEffect", func(e *broken) { e.end = func(error) error { return nil } }},
		{"a conflict with a read is missed", "Txn/ConflictOfARead", inTxn(readAside)},
		{"a conflict with an absence is missed", "Txn/ConflictOfAnAbsence", inTxn(readAside)},
		{"a conflict with a list is missed", "Txn/ConflictOfAList", inTxn(listAside)},
		{"transactions do not see each other", "Linearizable/Transactions", inTxn(readAside)},
		{"a transaction does not read its writes", "Txn/ReadsItsWrites", inTxn(readAside)},
		{"a transaction does not list its writes", "Txn/ListsItsWrites", inTxn(listAside)},
		{"a transaction does not read one state", "Txn/ReadsOneState", inTxn(func(e *broken, x *brokenTx) {
			x.get = func(s *store.Schema, k store.Key) (store.Object, error) {
				return e.Store.Get(ctx, s, k, store.ReadOptions{})
			}
		})},
		{"preconditions in a transaction are ignored", "Txn/PreconditionsCount", inTxn(func(e *broken, x *brokenTx) {
			x.write = func(s *store.Schema, w store.Write) (store.Object, error) {
				unversioned(&w)
				return x.Tx.Write(s, w)
			}
		})},
	}
}

// Leases.

func leaseBugs() []bug {
	return []bug{
		{"a lease ends at several revisions", "Lease/ExpiryTakesAllAtOneRevision", endOneByOne},
		{"a lease ends early", "Lease/NeverEndsEarly", func(e *broken) {
			e.grant = func(ctx context.Context, ttl time.Duration) (store.Lease, error) {
				l, err := e.Store.Grant(ctx, ttl/2)
				l.TTL = ttl
				return l, err
			}
		}},
		{"keep alive does nothing", "Lease/KeepAlive", func(e *broken) {
			e.keepAlive = func(context.Context, store.LeaseID) error { return nil }
		}},
		{"revoke does nothing", "Lease/Revoke", func(e *broken) {
			e.revoke = func(context.Context, store.LeaseID) error { return nil }
		}},
		{"a lost lease is granted anew", "Lease/LostIsLost", func(e *broken) {
			e.keepAlive = func(ctx context.Context, id store.LeaseID) error {
				if err := e.Store.KeepAlive(ctx, id); !errors.Is(err, store.ErrLeaseLost) {
					return err
				}
				return nil
			}
		}},
		{"a lease forgets what is updated", "Lease/WritesKeepTheAttachment", func(e *broken) {
			e.write = func(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
				if w.Op != store.Create && w.Options.Lease == 0 {
					if l, err := e.Store.Grant(ctx, 1000*time.Hour); err == nil {
						w.Options.Lease = l.ID
					}
				}
				return e.Store.Write(ctx, s, w)
			}
		}},
		{"a fence is ignored", "Lease/FenceOfAWrite", writing(func(w *store.Write) { w.Options.Fence = 0 })},
		{"a fence of a transaction is ignored", "Lease/FenceOfATransaction", inTxn(func(_ *broken, x *brokenTx) {
			x.fence = func(store.LeaseID) {}
		})},
	}
}

// endOneByOne deletes what a lease takes along object by object.
func endOneByOne(e *broken) {
	type place struct {
		schema *store.Schema
		key    store.Key
	}
	var mu sync.Mutex
	attached := map[store.LeaseID][]place{}
	e.write = func(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
		o, err := e.Store.Write(ctx, s, w)
		if err == nil && w.Options.Lease != 0 {
			mu.Lock()
			defer mu.Unlock()
			attached[w.Options.Lease] = append(attached[w.Options.Lease], place{s, store.KeyOf(o)})
		}
		return o, err
	}
	e.grant = func(ctx context.Context, ttl time.Duration) (store.Lease, error) {
		l, err := e.Store.Grant(ctx, 2*ttl)
		l.TTL = ttl
		e.running.Go(func() {
			select {
			case <-time.After(ttl):
			case <-e.done:
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, at := range attached[l.ID] {
				_, _ = e.Store.Write(context.Background(), at.schema, store.Write{Op: store.Delete, Key: at.key})
			}
		})
		return l, err
	}
}

// Kinds, the window, bad input and Close.

func otherBugs() []bug {
	return []bug{
		{"compaction does nothing", "Window/CompactedIsTooOld", func(e *broken) {
			e.compact = func(context.Context, uint64) error { return nil }
		}},
		{"compaction takes too much", "Window/EdgeIsReadable", func(e *broken) {
			e.compact = func(ctx context.Context, rev uint64) error {
				return e.Store.Compact(ctx, min(rev+1, max(rev, e.now())))
			}
		}},
		{"a kind that goes takes its objects along", "Kind/ObjectsSurvive", func(e *broken) {
			e.unregister = func(s *store.Schema) error {
				ctx := context.Background()
				var keys []store.Key
				_, _ = e.Store.List(ctx, s, store.ListOptions{}, func(o store.Object) bool {
					keys = append(keys, store.KeyOf(o))
					return true
				})
				for _, k := range keys {
					_, _ = e.Store.Write(ctx, s, store.Write{Op: store.Delete, Key: k})
				}
				return e.Store.Unregister(s)
			}
		}},
		{"two kinds have one name", "Kind/NamesAreUnique", func(e *broken) {
			e.register = func(s *store.Schema) error {
				if err := e.Store.Register(s); !errors.Is(err, store.ErrKindExists) {
					return err
				}
				return nil
			}
		}},
		{"a negative limit is none", "BadInput/NegativeNumbers", func(e *broken) {
			e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
				o.Limit = max(o.Limit, 0)
				return e.Store.List(ctx, s, o, yield)
			}
		}},
		{"the revision of a closed store can be read", "Close/EveryCallFails", func(e *broken) {
			e.revision = func(ctx context.Context) (uint64, error) {
				rev, err := e.Store.Revision(ctx)
				if errors.Is(err, store.ErrClosed) {
					err = nil
				}
				return rev, err
			}
		}},
		{"an empty store is at revision 0", "List/RevisionToWatchFromWhenEmpty", func(e *broken) {
			e.list = func(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
				meta, err := e.Store.List(ctx, s, o, yield)
				meta.Revision--
				return meta, err
			}
		}},
	}
}
