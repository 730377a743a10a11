// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// The annotations that the protocol adds to a Lease. Whoever does not know them
// (client-go, say) keeps to the fields of the spec, and so do we towards him.
const (
	// sessionAnnotation tells holders of one identity apart: it is random, and new
	// for each process.
	sessionAnnotation = "slipway.dev/session"
	// fenceAnnotation is the store's lease that fences what the holder writes.
	fenceAnnotation = "slipway.dev/fence"
)

// ErrLeadershipLost is the cause with which a context ends when a lease was lost:
// taken by another, deleted, or not renewed in time. See [context.Cause].
var ErrLeadershipLost = errors.New("reconcile: the lease is lost")

// errReleased is the cause with which a tenure's context ends when it is over.
var errReleased = errors.New("reconcile: the lease was released")

// tenure is the time for which this process holds a Lease object, with the fence
// that goes with it.
//
// The object is what electors agree on: it is changed at a demanded version only,
// so that of two who want it one gets it. The fence is what the store checks: it
// is granted before the object is taken and revoked before anybody else takes it,
// so that nobody works while a fence of an earlier tenure still lets writes
// through. A fence that was granted and never made it into the object ends by
// itself.
type tenure struct {
	objects *leaseObjects
	timing  LeaseTiming
	fence   store.LeaseID
	epoch   uint64 // the revision at which it began

	record *Lease // as last written or read; belongs to whoever renews

	// ctx ends when the lease can no longer be proved to be held.
	ctx    context.Context
	cancel context.CancelCauseFunc
	expiry *time.Timer
	began  time.Time
	until  atomic.Int64 // nanoseconds after began; grows while the timer has not fired
}

// newTenure begins a tenure from an object that was just written; sent is from
// before that.
func newTenure(ctx context.Context, o *leaseObjects, timing LeaseTiming, record *Lease, fence store.LeaseID, sent time.Time) (*tenure, error) {
	epoch, err := store.RevisionOf(record)
	if err != nil {
		return nil, err
	}
	t := &tenure{objects: o, timing: timing, fence: fence, epoch: epoch, record: record, began: sent}
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	t.until.Store(int64(timing.Deadline))
	t.expiry = time.AfterFunc(timing.Deadline-time.Since(sent), func() {
		t.lose(fmt.Errorf("no renewal within %v", timing.Deadline))
	})
	return t, nil
}

// lose ends the tenure.
func (t *tenure) lose(why error) { t.cancel(fmt.Errorf("%w: %w", ErrLeadershipLost, why)) }

// valid reports whether the lease can be proved to be held now. It looks at the
// clock, because timers fire late in a process that was paused.
func (t *tenure) valid() bool {
	return int64(time.Since(t.began)) < t.until.Load() && t.ctx.Err() == nil
}

// prove extends the tenure: what was sent then has succeeded.
func (t *tenure) prove(sent time.Time) {
	until := sent.Add(t.timing.Deadline)
	if !t.valid() || !t.expiry.Stop() {
		t.lose(errors.New("renewed too late"))
		return
	}
	t.until.Store(int64(until.Sub(t.began)))
	t.expiry.Reset(time.Until(until))
}

// renew renews the lease, the object first: if another has revoked the fence to
// take the object and then was too late, it shows at once. It counts once confirm
// has succeeded too. An error that leaves the tenure alive is worth another attempt.
func (t *tenure) renew(ctx context.Context, change func(*Lease), confirm func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, t.timing.attempt())
	defer cancel()
	sent := time.Now()
	err := t.renewObject(ctx, change)
	if err == nil {
		err = t.objects.keepAlive(ctx, t.fence)
	}
	if err == nil {
		err = confirm(ctx)
	}
	if errors.Is(err, store.ErrLeaseLost) {
		t.lose(err)
		return err
	}
	if err == nil {
		t.prove(sent)
	}
	return err
}

// renewObject writes a new renewal time. Where the version has moved on, it looks
// whether the object is still ours: an answer that was lost or an annotation by
// somebody else moves it, too.
func (t *tenure) renewObject(ctx context.Context, change func(*Lease)) error {
	for range 3 {
		next := t.record.DeepCopy()
		change(next)
		next.Spec.RenewTime = after(t.record.Spec.RenewTime)
		written, err := t.objects.update(ctx, next)
		if err == nil {
			t.record = written
			return nil
		}
		if errors.Is(err, store.ErrNotFound) {
			t.lose(fmt.Errorf("its object was deleted: %w", err))
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if err := t.reread(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: Lease %s changes all the time", store.ErrConflict, store.KeyOf(t.record))
}

// reread takes in the object as it is, which ends the tenure if it is another's.
func (t *tenure) reread(ctx context.Context) error {
	found, err := t.objects.get(ctx, store.KeyOf(t.record))
	if err == nil && (value(found.Spec.HolderIdentity) != value(t.record.Spec.HolderIdentity) ||
		found.Annotations[sessionAnnotation] != t.record.Annotations[sessionAnnotation]) {
		err = fmt.Errorf("Lease %s is held by %q", store.KeyOf(found), value(found.Spec.HolderIdentity))
		t.lose(err)
	} else if errors.Is(err, store.ErrNotFound) {
		t.lose(fmt.Errorf("its object was deleted: %w", err))
	}
	if err != nil {
		return err
	}
	t.record = found
	return nil
}

// end gives the lease back, once the work is over, unless it is another's. The
// fence goes first, so that work which outlives its end writes nothing. Where that
// fails, it stays in the object for the successor to revoke, and the error says so;
// any other means that the others have to wait until the lease has run out.
func (t *tenure) end(ctx context.Context) error {
	t.expiry.Stop()
	t.cancel(errReleased)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.timing.attempt())
	defer cancel()
	unfenced := t.objects.revoke(ctx, t.fence)
	if unfenced != nil {
		unfenced = fmt.Errorf("revoke the fence: %w", unfenced)
	}
	for {
		next := t.record.DeepCopy()
		free(next)
		if unfenced == nil {
			setFence(next, 0)
		}
		_, err := t.objects.update(ctx, next)
		if errors.Is(err, store.ErrNotFound) {
			return unfenced
		}
		if errors.Is(err, store.ErrConflict) && t.stillOurs(ctx) {
			continue
		}
		if err == nil || errors.Is(err, store.ErrConflict) {
			return unfenced
		}
		if sleep(ctx, t.timing.Retry/4); ctx.Err() != nil {
			return fmt.Errorf("release Lease %s: %w", store.KeyOf(t.record), err)
		}
	}
}

// stillOurs reads the object again, and reports false where it is another's.
func (t *tenure) stillOurs(ctx context.Context) bool {
	before := t.record.ResourceVersion
	return t.reread(ctx) == nil && t.record.ResourceVersion != before
}

// free is what a release makes of a Lease.
func free(l *Lease) {
	l.Spec.HolderIdentity = new("")
	l.Spec.RenewTime = after(l.Spec.RenewTime)
	delete(l.Annotations, sessionAnnotation)
}

// after returns the time by the wall clock, or the next instant after the one
// before: a renewal must differ from it even if the clock was set back.
func after(before *MicroTime) *MicroTime {
	now := time.Now().Round(0).Truncate(time.Microsecond)
	if before != nil && now.UnixMicro() == before.UnixMicro() {
		now = now.Add(time.Microsecond)
	}
	return &MicroTime{now}
}

// fenceOf returns the fence that the Lease names; 0 where it names none. Text
// that is no number was not written by us.
func fenceOf(l *Lease) store.LeaseID {
	id, err := strconv.ParseUint(l.Annotations[fenceAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return store.LeaseID(id)
}

func setFence(l *Lease, fence store.LeaseID) { setAnnotation(l, fenceAnnotation, formatFence(fence)) }

func formatFence(fence store.LeaseID) string {
	if fence == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(fence), 10)
}

// setAnnotation sets an annotation; "" removes it.
func setAnnotation(l *Lease, name, text string) {
	if text == "" {
		delete(l.Annotations, name)
		return
	}
	if l.Annotations == nil {
		l.Annotations = map[string]string{}
	}
	l.Annotations[name] = text
}
