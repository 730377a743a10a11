// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// leaseModel is what a random walk over leases expects: who holds until when, and
// which object is attached to what.
type leaseModel struct {
	until   map[store.LeaseID]time.Time
	ttl     map[store.LeaseID]time.Duration
	objects map[string]store.LeaseID // 0: attached to none
}

// end forgets the leases whose time is up, or that one, and their objects.
func (m *leaseModel) end(revoked store.LeaseID) {
	for id, until := range m.until {
		if id != revoked && time.Now().Before(until) {
			continue
		}
		delete(m.until, id)
		for name, of := range m.objects {
			if of == id {
				delete(m.objects, name)
			}
		}
	}
}

func (m *leaseModel) held(id store.LeaseID) bool {
	_, ok := m.until[id]
	return ok
}

// TestLeasesModel grants, keeps alive, revokes and lets run out at random, and
// compares the objects that are there after each step with the model.
func TestLeasesModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		st := memory.New(memory.Options{})
		defer st.Close()
		h := register(t, st, "Item")
		m := leaseModel{map[store.LeaseID]time.Time{}, map[store.LeaseID]time.Duration{}, map[string]store.LeaseID{}}
		last := store.LeaseID(0)
		ended := 0
		for range 5000 {
			id := store.LeaseID(0)
			if last > 0 {
				id = last - store.LeaseID(r.Uint64N(min(uint64(last), 8))) // one of the newest, held or not
			}
			name := string(rune('a' + r.IntN(12)))
			key := store.NewKey("default", name)
			_, there := m.objects[name]
			want := func(what string, err error, ok bool, otherwise error) {
				t.Helper()
				if ok && err != nil || !ok && !errors.Is(err, otherwise) {
					t.Fatalf("%s with lease %d, held %t: %v, want %v", what, id, m.held(id), err, otherwise)
				}
			}
			switch r.IntN(7) {
			case 0:
				ttl := time.Duration(1 + r.Int64N(int64(time.Minute)))
				lease, err := st.Grant(t.Context(), ttl)
				if err != nil || lease.TTL != ttl || lease.ID <= last {
					t.Fatalf("Grant(%v) = %+v, %v", ttl, lease, err)
				}
				last = lease.ID
				m.until[last], m.ttl[last] = time.Now().Add(ttl), ttl
			case 1:
				want("keep alive", st.KeepAlive(t.Context(), id), m.held(id), store.ErrLeaseLost)
				if m.held(id) {
					m.until[id] = time.Now().Add(m.ttl[id])
				}
			case 2:
				if r.IntN(4) == 0 {
					want("revoke", st.Revoke(t.Context(), id), m.held(id), store.ErrLeaseLost)
					m.end(id)
				}
			case 3:
				if there {
					break
				}
				_, err := h.Create(t.Context(), &item{Meta: store.Meta{Namespace: "default", Name: name}, Node: fmt.Sprint(id)}, store.WriteOptions{Lease: id})
				want("create", err, id == 0 || m.held(id), store.ErrLeaseLost)
				if err == nil {
					m.objects[name] = id
				}
			case 4:
				if !there {
					break
				}
				_, err := h.Patch(t.Context(), key, func(o *item) error { o.Node = fmt.Sprint(id); return nil }, store.WriteOptions{Lease: id, Fence: id})
				want("patch", err, id == 0 || m.held(id), store.ErrLeaseLost)
				if err == nil && id != 0 {
					m.objects[name] = id
				}
			case 5:
				if there && r.IntN(3) == 0 {
					if _, err := h.Delete(t.Context(), key); err != nil {
						t.Fatal(err)
					}
					delete(m.objects, name)
				}
			case 6:
				before := len(m.until)
				time.Sleep(time.Duration(r.Int64N(int64(20 * time.Second))))
				synctest.Wait()
				m.end(0)
				ended += before - len(m.until)
			}
			checkObjects(t, h, m.objects)
		}
		if ended == 0 {
			t.Error("no lease ran out: the test tests little")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		m.end(0)
		checkObjects(t, h, m.objects)
	})
}

func checkObjects(t *testing.T, h *store.Handle[*item], want map[string]store.LeaseID) {
	t.Helper()
	got := map[string]bool{}
	for o, err := range h.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[o.Name] = true
	}
	for name := range want {
		if !got[name] {
			t.Fatalf("object %s is gone, and its lease %d is held", name, want[name])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("the objects are %v, want those of %v", got, want)
	}
}

// TestLeaseTakesAllAtOneRevision ends a lease with objects of two kinds, some with
// finalizers.
func TestLeaseTakesAllAtOneRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		a, b := register(t, st, "A"), register(t, st, "B")
		lease, err := st.Grant(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		const n = 10
		for i := range n {
			o := &item{Meta: store.Meta{Namespace: "default", Name: fmt.Sprint("o", i)}}
			if i == 0 {
				o.Finalizers = []string{"example.com/hold"}
			}
			for _, h := range []*store.Handle[*item]{a, b} {
				if _, err := h.Create(t.Context(), o, store.WriteOptions{Lease: lease.ID}); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Second - time.Nanosecond)
		synctest.Wait()
		if rev, err := st.Revision(t.Context()); err != nil || rev != 1+2*n {
			t.Fatalf("revision %d, %v before the end, want %d", rev, err, 1+2*n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if rev, err := st.Revision(t.Context()); err != nil || rev != 2+2*n {
			t.Fatalf("revision %d, %v after the end, want %d", rev, err, 2+2*n)
		}
		for _, h := range []*store.Handle[*item]{a, b} {
			page, err := h.Page(t.Context())
			if err != nil || len(page.Items) != 1 || page.Items[0].DeletionTimestamp == nil {
				t.Errorf("left: %+v, %v, want the marked object alone", page.Items, err)
			}
		}
		if err := st.KeepAlive(t.Context(), lease.ID); !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("keep alive after the end: %v", err)
		}
	})
}

// TestLeaseKeptAlive keeps one lease for long beside one that is not kept.
func TestLeaseKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		h := register(t, st, "Item")
		var ids []store.LeaseID
		for i, ttl := range []time.Duration{10 * time.Second, 15 * time.Second} {
			lease, err := st.Grant(t.Context(), ttl)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, lease.ID)
			o := &item{Meta: store.Meta{Namespace: "default", Name: fmt.Sprint(i)}}
			if _, err := h.Create(t.Context(), o, store.WriteOptions{Lease: lease.ID}); err != nil {
				t.Fatal(err)
			}
		}
		for range 1000 {
			time.Sleep(9 * time.Second)
			if err := st.KeepAlive(t.Context(), ids[0]); err != nil {
				t.Fatal(err)
			}
		}
		checkObjects(t, h, map[string]store.LeaseID{"0": ids[0]})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		checkObjects(t, h, nil)
	})
}

// copied is an object that tells when it is copied.
type copied struct {
	store.Meta
	Size   int
	notify func(name string)
}

func (c *copied) DeepCopy() *copied {
	if c.notify != nil {
		c.notify(c.Name)
	}
	d := *c
	d.Meta = c.Meta.Clone()
	return &d
}

// TestLeaseEndsUnderWrites: each time that the end of a lease is prepared, one of
// its objects is written to; it ends all the same.
func TestLeaseEndsUnderWrites(t *testing.T) {
	st := memory.New(memory.Options{Mutations: store.DetectNever})
	defer st.Close()
	h, err := store.Register(st, store.Kind[*copied]{Name: "Copied"})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := st.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	armed, writes := false, 0
	notify := func(name string) {
		if !armed || name != "copied" || writes > 100 {
			return
		}
		writes++
		if _, err := h.Patch(t.Context(), store.NewKey("a", "written"), func(c *copied) error { c.Size++; return nil }); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"copied", "written"} {
		o := &copied{Meta: store.Meta{Namespace: "a", Name: name}, notify: notify}
		if _, err := h.Create(t.Context(), o, store.WriteOptions{Lease: lease.ID}); err != nil {
			t.Fatal(err)
		}
	}
	armed = true
	if err := st.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	if writes != 1 {
		t.Errorf("the end was prepared %d times, want once", writes)
	}
	if page, err := h.Page(t.Context()); err != nil || len(page.Items) != 0 {
		t.Errorf("left: %+v, %v, want none", page.Items, err)
	}
}

// TestLeaseThatCannotEnd: the end of one lease fails for as long as a hook
// panics on its object. Another lease, later in the queue, ends in time, and the
// first once the hook is well.
func TestLeaseThatCannotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ill atomic.Bool
		ill.Store(true)
		index := store.NewIndex("x", func(c *copied) string {
			if c.DeletionTimestamp != nil && ill.Load() {
				panic("boom")
			}
			return ""
		})
		st := memory.New(memory.Options{Mutations: store.DetectNever})
		defer st.Close()
		h, err := store.Register(st, store.Kind[*copied]{Name: "Copied", Indexes: []*store.Index[*copied]{index}})
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"stuck", "fine"} {
			lease, err := st.Grant(t.Context(), time.Duration(i+1)*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			o := &copied{Meta: store.Meta{Namespace: "a", Name: name}, notify: func(string) {}}
			if name == "stuck" {
				o.Finalizers = []string{"example.com/hold"}
			}
			if _, err := h.Create(t.Context(), o, store.WriteOptions{Lease: lease.ID}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2*time.Minute + time.Millisecond)
		synctest.Wait()
		if _, err := h.Get(t.Context(), store.NewKey("a", "fine")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the object of the lease that can end: %v, want not found", err)
		}
		ill.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if o, err := h.Get(t.Context(), store.NewKey("a", "stuck")); err != nil || o.DeletionTimestamp == nil {
			t.Errorf("the object of the lease that could not end: %v, %v, want it marked", o, err)
		}
	})
}
