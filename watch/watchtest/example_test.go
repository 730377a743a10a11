// SPDX-License-Identifier: Apache-2.0

package watchtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/watch"
	"github.com/slipway-dev/slipway/watch/watchtest"
)

type Pod struct {
	store.Meta `json:"metadata"`
}

func (p *Pod) DeepCopy() *Pod { return store.DeepCopy(p) }

// What fails as asked, asked for one fault after the other.
func TestSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		pods, err := store.Register(st, store.Kind[*Pod]{Name: "Pod"})
		if err != nil {
			t.Fatal(err)
		}
		src := watchtest.New(pods, watchtest.Options{Seed: 1})
		if src.Schema() != pods.Schema() {
			t.Error("the source is of another kind than the handle")
		}
		ended := make(chan error, 1)
		begin := func() {
			go func() {
				var last error
				for _, err := range src.Watch(t.Context(), store.WatchOptions{Bookmarks: time.Second}) {
					last = err
				}
				ended <- last
			}()
			synctest.Wait()
		}
		begin()
		if n := src.Watches(); n != 1 {
			t.Errorf("%d watches, want 1", n)
		}
		broken := errors.New("broken")
		src.Disconnect(broken)
		if err := <-ended; !errors.Is(err, broken) {
			t.Errorf("disconnected with %v", err)
		}
		src.Compact()
		begin()
		if err := <-ended; !errors.Is(err, store.ErrTooOld) {
			t.Errorf("compacted: %v", err)
		}
		src.Fail(broken)
		if _, err := src.Page(t.Context()); !errors.Is(err, broken) {
			t.Errorf("Page: %v", err)
		}
		begin()
		if err := <-ended; !errors.Is(err, broken) {
			t.Errorf("Watch: %v", err)
		}
		src.Heal()
		if _, err := src.Page(t.Context()); err != nil {
			t.Errorf("healed: %v", err)
		}
		src.SetFaults(watchtest.Faults{List: 1, Disconnect: 1})
		if _, err := src.Page(t.Context()); !errors.Is(err, watchtest.ErrInjected) {
			t.Errorf("Page: %v", err)
		}
		begin()
		time.Sleep(time.Minute) // the first bookmark is not reached
		if err := <-ended; err != nil && !errors.Is(err, watchtest.ErrInjected) {
			t.Errorf("Watch: %v", err)
		}
		if n := src.Watches(); n != 0 {
			t.Errorf("%d watches, want none", n)
		}
	})
}

func Example() {
	st := memory.New(memory.Options{})
	defer st.Close()
	pods, _ := store.Register(st, store.Kind[*Pod]{Name: "Pod"})

	src := watchtest.New(pods, watchtest.Options{})
	src.Fail(errors.New("no route to host"))
	informer := watch.New(src, watch.Options[*Pod]{})
	_, err := src.Page(context.Background())
	fmt.Println(err)
	src.Heal()
	fmt.Println(informer.Err()) // it was not started: nothing has failed
	// Output:
	// no route to host
	// <nil>
}
