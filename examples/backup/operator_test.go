// SPDX-License-Identifier: Apache-2.0

package backup_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/examples/backup"
	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/reconcile/reconciletest"
	"github.com/slipway-dev/slipway/store"
)

// world is what the operator meets: a store, services and a vault.
type world struct {
	*reconciletest.World
	schedules *store.Handle[*backup.Schedule]
	backups   *store.Handle[*backup.Backup]
	services  backup.MemoryServices
	vault     backup.MemoryVault
}

// start runs the operator, with its kinds registered.
func start(t *testing.T, rw *reconciletest.World) *world {
	t.Helper()
	w := &world{World: rw}
	if err := backup.Register(w.Store()); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.schedules, err = store.Lookup[*backup.Schedule](w.Store(), store.KindName{Group: "backup.example", Name: "Schedule"}); err != nil {
		t.Fatal(err)
	}
	if w.backups, err = store.Lookup[*backup.Backup](w.Store(), store.KindName{Group: "backup.example", Name: "Backup"}); err != nil {
		t.Fatal(err)
	}
	w.services.Set("orders", "1", "tea")
	w.Start(func(m *reconcile.Manager) error { return backup.Add(m, &w.services, &w.vault) })
	return w
}

func (w *world) create(name string, minutes, keep int) {
	w.T.Helper()
	s := &backup.Schedule{Meta: store.Meta{Namespace: "shop", Name: name}}
	s.Spec.Service, s.Spec.Minutes, s.Spec.Keep = "orders", minutes, keep
	if _, err := w.schedules.Create(w.T.Context(), s); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) schedule(name string) *backup.Schedule {
	w.T.Helper()
	s, err := w.schedules.Get(w.T.Context(), store.NewKey("shop", name))
	if err != nil {
		w.T.Fatal(err)
	}
	return s
}

// names returns the paths of the backups of midnight and some hours after it, in
// virtual time, which begins at midnight.
func names(schedule string, hours ...int) []string {
	var out []string
	for _, h := range hours {
		out = append(out, fmt.Sprintf("shop/%s-%s", schedule, time.Date(2000, 1, 1, h, 0, 0, 0, time.UTC).Format("20060102-1504")))
	}
	return out
}

func TestADay(t *testing.T) {
	reconciletest.Run(t, func(rw *reconciletest.World) {
		w := start(t, rw)
		w.create("hourly", 60, 3)
		w.Advance(24*time.Hour + time.Minute)
		if got, want := w.vault.Paths(), names("hourly", 22, 23, 24); !slices.Equal(got, want) {
			t.Errorf("after a day the vault has %v, want %v", got, want)
		}
		s := w.schedule("hourly")
		if !reconcile.IsTrue(s.Status.Conditions, "Ready") || "shop/"+s.Status.Last != names("hourly", 24)[0] {
			t.Errorf("status %+v, want ready, with the last backup", s.Status)
		}
		w.Idempotent()
	})
}

func TestAServiceThatIsDown(t *testing.T) {
	reconciletest.Run(t, func(rw *reconciletest.World) {
		w := start(t, rw)
		w.create("hourly", 60, 3)
		w.Advance(30 * time.Minute)
		w.services.SetDown(true)
		w.Advance(time.Hour)
		if s := w.schedule("hourly"); reconcile.IsTrue(s.Status.Conditions, "Ready") {
			t.Errorf("status %+v while the service is down, want not ready", s.Status)
		}
		w.services.SetDown(false)
		w.Advance(20 * time.Minute)
		if s := w.schedule("hourly"); !reconcile.IsTrue(s.Status.Conditions, "Ready") {
			t.Errorf("status %+v when the service is back, want ready", s.Status)
		}
	})
}

func TestADeletedBackupLeavesTheVault(t *testing.T) {
	reconciletest.Run(t, func(rw *reconciletest.World) {
		w := start(t, rw)
		w.create("daily", 24*60, 2)
		w.Settle()
		if got, want := w.vault.Paths(), names("daily", 0); !slices.Equal(got, want) {
			t.Fatalf("the vault has %v, want %v", got, want)
		}
		page, err := w.backups.Page(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := w.schedule("daily")
		if _, err := w.schedules.Delete(t.Context(), store.KeyOf(s)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.backups.Delete(t.Context(), store.KeyOf(page.Items[0])); err != nil {
			t.Fatal(err)
		}
		w.Settle()
		if got := w.vault.Paths(); len(got) != 0 {
			t.Errorf("the vault still has %v", got)
		}
		if _, err := w.backups.Get(t.Context(), store.KeyOf(page.Items[0])); err == nil {
			t.Error("the backup is still there")
		}
	})
}

// TestConverges has the process crash, meet conflicts, fail, lose answers and wait
// at each call that the operator makes to the store in three hours.
func TestConverges(t *testing.T) {
	reconciletest.Converges(t, func(rw *reconciletest.World) {
		w := start(t, rw)
		w.create("hourly", 60, 2)
		w.Advance(3 * time.Hour)
	}, reconciletest.ConvergeOptions{Horizon: 30 * time.Minute})
}

func TestBadSchedules(t *testing.T) {
	reconciletest.Run(t, func(rw *reconciletest.World) {
		w := start(t, rw)
		s := &backup.Schedule{Meta: store.Meta{Namespace: "shop", Name: "bad"}}
		if _, err := w.schedules.Create(t.Context(), s); err == nil {
			t.Error("a schedule without a service was accepted")
		}
	})
}
