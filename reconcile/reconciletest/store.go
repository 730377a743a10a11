// SPDX-License-Identifier: Apache-2.0

package reconciletest

import (
	"context"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// process is the store as one incarnation of the manager sees it: calls that
// reconciles make are recorded and meet faults, and after a crash nothing that is
// left of the incarnation has any effect.
type process struct {
	store.Engine
	world   *World
	crashed chan struct{} // closed by a crash
}

func (p *process) dead() bool {
	select {
	case <-p.crashed:
		return true
	default:
		return false
	}
}

// call records a call of a reconcile and carries it out, with its fault.
func (p *process) call(ctx context.Context, c Call, do func() error) error {
	running, ok := reconcile.Current(ctx)
	if !ok {
		if p.dead() {
			return errCrashed
		}
		return do()
	}
	c.Running = running
	fault := p.world.meet(p, &c)
	if p.dead() {
		return errCrashed
	}
	switch fault {
	case CrashBefore:
		p.world.crash(p)
		return errCrashed
	case CrashAfter:
		err := do()
		p.world.crash(p)
		if err != nil {
			return err
		}
		return errCrashed
	case Conflict:
		if c.isWrite() {
			return &store.Error{Op: c.Op, Kind: c.Kind.String(), Key: c.Key, Err: store.ErrConflict}
		}
	case Fail:
		return &store.Error{Op: c.Op, Kind: c.Kind.String(), Key: c.Key, Err: ErrInjected}
	case LoseAnswer:
		if err := do(); err != nil || !c.isWrite() {
			return err
		}
		return &store.Error{Op: c.Op, Kind: c.Kind.String(), Key: c.Key, Err: store.ErrUnknownOutcome}
	case Delay:
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return do()
}

func (p *process) Get(ctx context.Context, s *store.Schema, key store.Key, opts store.ReadOptions) (o store.Object, err error) {
	err = p.call(ctx, Call{Op: "get", Kind: s.KindName, Key: key}, func() (err error) {
		o, err = p.Engine.Get(ctx, s, key, opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (p *process) List(ctx context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (meta store.ListMeta, err error) {
	err = p.call(ctx, Call{Op: "list", Kind: s.KindName}, func() (err error) {
		meta, err = p.Engine.List(ctx, s, opts, yield)
		return err
	})
	return meta, err
}

func (p *process) Write(ctx context.Context, s *store.Schema, w store.Write) (o store.Object, err error) {
	key := w.Key
	if w.Object != nil {
		key = store.KeyOf(w.Object)
	}
	err = p.call(ctx, Call{Op: w.Op.String(), Kind: s.KindName, Key: key}, func() (err error) {
		o, err = p.Engine.Write(ctx, s, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (p *process) Txn(ctx context.Context, f func(store.Tx) error) (rev uint64, err error) {
	err = p.call(ctx, Call{Op: "transaction"}, func() (err error) {
		rev, err = p.Engine.Txn(ctx, f)
		return err
	})
	return rev, err
}

func (p *process) Grant(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	if p.dead() {
		return store.Lease{}, errCrashed
	}
	return p.Engine.Grant(ctx, ttl)
}

func (p *process) KeepAlive(ctx context.Context, id store.LeaseID) error {
	if p.dead() {
		return errCrashed
	}
	return p.Engine.KeepAlive(ctx, id)
}

func (p *process) Revoke(ctx context.Context, id store.LeaseID) error {
	if p.dead() {
		return errCrashed
	}
	return p.Engine.Revoke(ctx, id)
}
