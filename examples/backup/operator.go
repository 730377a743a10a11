// SPDX-License-Identifier: Apache-2.0

// Package backup is an operator: it backs up key-value services as Schedules ask
// for, and keeps the latest copies.
package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// Schedule asks for backups of a service.
type Schedule struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Service string `json:"service"`
		Minutes int    `json:"minutes"` // between two backups
		Keep    int    `json:"keep"`    // copies; the oldest go first
		Suspend bool   `json:"suspend,omitempty"`
	} `json:"spec"`
	Status struct {
		Last       string                `json:"last,omitempty"` // the latest backup that succeeded
		Conditions []reconcile.Condition `json:"conditions,omitempty"`
	} `json:"status,omitzero"`
}

// DeepCopy makes Schedule an object.
func (s *Schedule) DeepCopy() *Schedule { return store.DeepCopy(s) }

// Backup is one copy, owned by its schedule. Its finalizer keeps it until the
// copy is out of the vault.
type Backup struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Schedule string `json:"schedule"`
		Service  string `json:"service"`
	} `json:"spec"`
	Status struct {
		Bytes int  `json:"bytes,omitempty"`
		Done  bool `json:"done,omitempty"`
	} `json:"status,omitzero"`
}

// DeepCopy makes Backup an object.
func (b *Backup) DeepCopy() *Backup { return store.DeepCopy(b) }

const finalizer = "backup.example/vault"

var bySchedule = store.NewIndex("spec.schedule", func(b *Backup) string { return b.Spec.Schedule })

// Register makes the operator's kinds known to a store.
func Register(st store.Store) error {
	_, err := store.Register(st, store.Kind[*Schedule]{Group: "backup.example", Version: "v1", Name: "Schedule", Validate: validate})
	if err != nil {
		return err
	}
	_, err = store.Register(st, store.Kind[*Backup]{Group: "backup.example", Version: "v1", Name: "Backup", Indexes: []*store.Index[*Backup]{bySchedule}})
	return err
}

func validate(_, s *Schedule) error {
	if s.Spec.Service == "" || s.Spec.Minutes < 1 || s.Spec.Keep < 1 {
		return store.Invalidf("spec: service %q, minutes %d, keep %d: want a name, and 1 or more of both", s.Spec.Service, s.Spec.Minutes, s.Spec.Keep)
	}
	return nil
}

type operator struct {
	schedules *store.Handle[*Schedule]
	backups   *store.Handle[*Backup]
	services  Services
	vault     Vault
}

// Add adds the operator's two controllers to a manager.
func Add(m *reconcile.Manager, services Services, vault Vault) error {
	o := operator{services: services, vault: vault}
	var err error
	if o.schedules, err = store.Lookup[*Schedule](m.Store(), store.KindName{Group: "backup.example", Name: "Schedule"}); err != nil {
		return err
	}
	if o.backups, err = store.Lookup[*Backup](m.Store(), store.KindName{Group: "backup.example", Name: "Backup"}); err != nil {
		return err
	}
	_, err = reconcile.New(m, "schedule", o.schedule, reconcile.Options[store.Key]{},
		reconcile.For(o.schedules), reconcile.Owns(o.backups, o.schedules))
	if err != nil {
		return err
	}
	_, err = reconcile.New(m, "backup", o.backup, reconcile.Options[store.Key]{Workers: 4}, reconcile.For(o.backups))
	return err
}

// schedule makes the backup that is due, and lets go of those beyond Keep.
func (o *operator) schedule(ctx context.Context, key store.Key) reconcile.Result {
	s, err := o.schedules.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Done()
	} else if err != nil {
		return reconcile.Retry(err)
	}
	every := time.Duration(s.Spec.Minutes) * time.Minute
	due := time.Now().Truncate(every)
	b := &Backup{Meta: store.Meta{Namespace: s.Namespace, Name: s.Name + due.UTC().Format("-20060102-1504")}}
	b.Spec.Schedule, b.Spec.Service = s.Name, s.Spec.Service
	if err := reconcile.SetController(o.backups, b, o.schedules, s); err != nil {
		return reconcile.Park(err)
	}
	if !s.Spec.Suspend {
		if _, err := o.backups.Create(ctx, b); err != nil && !errors.Is(err, store.ErrAlreadyExists) {
			return reconcile.Retry(err)
		}
	}
	page, err := o.backups.Page(ctx, store.ListOptions{Namespace: s.Namespace, Fields: bySchedule.Is(s.Name)})
	if err != nil {
		return reconcile.Retry(err)
	}
	last, ready := "", reconcile.Condition{Type: "Ready", Status: reconcile.ConditionTrue, Reason: "UpToDate", Message: "the latest backup is in the vault", ObservedGeneration: s.Generation}
	for i, b := range page.Items { // by name, so the oldest first
		if len(page.Items)-i > s.Spec.Keep {
			if _, err := o.backups.Delete(ctx, store.KeyOf(b)); err != nil && !errors.Is(err, store.ErrNotFound) {
				return reconcile.Retry(err)
			}
		} else if b.Status.Done {
			last = b.Name
		} else if ready.Status == reconcile.ConditionTrue {
			ready.Status, ready.Reason, ready.Message = reconcile.ConditionFalse, "InProgress", fmt.Sprintf("%s is not in the vault yet", b.Name)
		}
	}
	_, err = o.schedules.Patch(ctx, key, func(s *Schedule) error {
		s.Status.Last = last
		_, err := reconcile.SetCondition(&s.Status.Conditions, ready)
		return err
	})
	if err != nil {
		return reconcile.Retry(err)
	}
	return reconcile.Again(time.Until(due.Add(every)))
}

// backup puts one copy into the vault, and takes it out again at the end.
func (o *operator) backup(ctx context.Context, key store.Key) reconcile.Result {
	b, err := o.backups.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Done()
	} else if err != nil {
		return reconcile.Retry(err)
	}
	b, deleted, err := reconcile.Finalize(ctx, o.backups, b, finalizer, func(ctx context.Context, b *Backup) error {
		return o.vault.Remove(ctx, key.String())
	})
	if err != nil || deleted || b.Status.Done {
		return reconcile.OK(err)
	}
	data, err := o.services.Dump(ctx, b.Spec.Service)
	if err != nil {
		return reconcile.Retry(err)
	}
	if err := o.vault.Put(ctx, key.String(), data); err != nil {
		return reconcile.Retry(err)
	}
	_, err = o.backups.Patch(ctx, key, func(b *Backup) error {
		b.Status.Done, b.Status.Bytes = true, len(data)
		return nil
	})
	return reconcile.OK(err)
}
