// SPDX-License-Identifier: Apache-2.0

package reconciletest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/reconcile/reconciletest"
	"github.com/slipway-dev/slipway/store"
)

// A claim wants a room, which its controller makes.
type claim struct {
	store.Meta `json:"metadata"`
	Rooms      int    `json:"rooms"`
	Bound      string `json:"bound,omitempty"`
}

type room struct {
	store.Meta `json:"metadata"`
	For        string `json:"for"`
}

func (c *claim) DeepCopy() *claim { return store.DeepCopy(c) }
func (r *room) DeepCopy() *room   { return store.DeepCopy(r) }

// hotel is a controller, right or wrong in one of several ways.
type hotel struct {
	claims *store.Handle[*claim]
	rooms  *store.Handle[*room]
	wrong  string
	memory map[store.Key]bool // what a wrong controller keeps in memory
}

func (h *hotel) add(m *reconcile.Manager) error {
	var err error
	if h.claims, err = reconciletest.Kind(m, store.Kind[*claim]{Name: "Claim", Version: "v1"}); err != nil {
		return err
	}
	if h.rooms, err = reconciletest.Kind(m, store.Kind[*room]{Name: "Room", Version: "v1"}); err != nil {
		return err
	}
	h.memory = map[store.Key]bool{}
	_, err = reconcile.New(m, "hotel", h.reconcile, reconcile.Options[store.Key]{}, reconcile.For(h.claims))
	return err
}

func (h *hotel) reconcile(ctx context.Context, key store.Key) reconcile.Result {
	c, err := h.claims.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Done()
	}
	if err != nil {
		if h.wrong == "gives up" {
			return reconcile.Done()
		}
		return reconcile.Retry(err)
	}
	if c.Bound != "" && h.wrong != "never content" {
		return reconcile.Done()
	}
	for i := range c.Rooms {
		r := &room{Meta: store.Meta{Namespace: key.Namespace, Name: fmt.Sprintf("%s-%d", key.Name, i)}, For: key.Name}
		if h.wrong == "random names" {
			r.Name, r.GenerateName = "", key.Name+"-"
		}
		_, err := h.rooms.Create(ctx, r)
		switch {
		case err == nil:
		case h.wrong == "create fails for good" || !errors.Is(err, store.ErrAlreadyExists):
			if h.wrong == "swallows errors" {
				continue
			}
			return reconcile.Retry(err)
		}
	}
	_, err = h.claims.Patch(ctx, key, func(c *claim) error {
		c.Bound = fmt.Sprintf("%s-%d", key.Name, c.Rooms-1)
		if h.wrong == "never content" {
			c.Bound += "x" + c.ResourceVersion
		}
		return nil
	})
	return reconcile.OK(err)
}

func scenario(wrong string) func(*reconciletest.World) {
	return func(w *reconciletest.World) {
		h := &hotel{wrong: wrong}
		w.Start(h.add)
		claims, err := store.Lookup[*claim](w.Store(), store.KindName{Name: "Claim"})
		if err != nil {
			w.T.Fatal(err)
		}
		if _, err := claims.Create(w.T.Context(), &claim{Meta: store.Meta{Namespace: "inn", Name: "suite"}, Rooms: 3}); err != nil {
			w.T.Fatal(err)
		}
		w.Advance(time.Minute)
	}
}

func TestConvergesPassesARightController(t *testing.T) {
	reconciletest.Converges(t, scenario(""))
}

// TestConvergesFindsWrongControllers runs this program again for each wrong
// controller, because a test that fails can't be taken back.
func TestConvergesFindsWrongControllers(t *testing.T) {
	if wrong, ok := os.LookupEnv("SLIPWAY_WRONG_CONTROLLER"); ok {
		reconciletest.Converges(t, scenario(wrong))
		return
	}
	for wrong, want := range map[string]string{
		"random names":          "is there, and undisturbed it is not",
		"create fails for good": "Claim inn/suite differs",
		"swallows errors":       "Room inn/suite-1 is missing",
		"gives up":              "Claim inn/suite differs",
		"never content":         "it keeps itself busy",
	} {
		t.Run(wrong, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestConvergesFindsWrongControllers$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), "SLIPWAY_WRONG_CONTROLLER="+wrong)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("Converges passed a controller that is wrong")
			}
			if !strings.Contains(string(out), want) {
				t.Errorf("Converges said\n%s\nwant %q in it", out, want)
			}
		})
	}
}

func TestRecords(t *testing.T) {
	reconciletest.Run(t, func(w *reconciletest.World) {
		scenario("")(w)
		records := w.Records()
		if len(records) == 0 {
			t.Fatal("no records")
		}
		first := records[0]
		var ops []string
		for _, c := range first.Calls {
			ops = append(ops, c.Op+" "+c.Kind.String())
		}
		if got, want := strings.Join(ops, ", "), "get Claim, create Room, create Room, create Room, patch Claim"; got != want {
			t.Errorf("the first reconcile made the calls %s, want %s", got, want)
		}
		if len(first.Wrote) != 4 {
			t.Errorf("it wrote %v, want 4 objects", first.Wrote)
		}
		w.Idempotent()
	})
}

func TestFaultsAndRestarts(t *testing.T) {
	reconciletest.Run(t, func(w *reconciletest.World) {
		failed := 0
		w.Faults(func(c reconciletest.Call) reconciletest.Fault {
			if c.Op == "create" && failed < 3 {
				failed++
				return reconciletest.Fail
			}
			return reconciletest.None
		})
		scenario("")(w)
		retries := 0
		for _, r := range w.Records() {
			if errors.Is(r.Err, reconciletest.ErrInjected) {
				retries++
			}
		}
		if retries != 3 {
			t.Errorf("%d reconciles met the fault, want 3", retries)
		}
		m := w.Manager()
		w.Restart()
		if w.Manager() == m {
			t.Error("the manager is the same after a restart")
		}
		w.Advance(time.Minute)
		w.Idempotent()
	})
}

// TestRecordsOfALongReconcile have what it did before the time went by.
func TestRecordsOfALongReconcile(t *testing.T) {
	reconciletest.Run(t, func(w *reconciletest.World) {
		w.Start(func(m *reconcile.Manager) error {
			claims, err := reconciletest.Kind(m, store.Kind[*claim]{Name: "Claim", Version: "v1"})
			if err != nil {
				return err
			}
			_, err = reconcile.New(m, "slow", func(ctx context.Context, key store.Key) reconcile.Result {
				_, err := claims.Get(ctx, key)
				time.Sleep(30 * time.Second)
				return reconcile.OK(err)
			}, reconcile.Options[store.Key]{}, reconcile.For(claims))
			return err
		})
		claims, err := store.Lookup[*claim](w.Store(), store.KindName{Name: "Claim"})
		if err == nil {
			_, err = claims.Create(w.T.Context(), &claim{Meta: store.Meta{Namespace: "inn", Name: "suite"}})
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Advance(10 * time.Second)
		w.Advance(time.Minute)
		if r := w.Records(); len(r) != 1 || len(r[0].Calls) != 1 {
			t.Errorf("records %v, want one with one call", r)
		}
	})
}
