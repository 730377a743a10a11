// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"sync"
	"weak"

	"github.com/slipway-dev/slipway/store"
)

// present is every object of an informer at one moment: what a handler begins
// with, shared by all who begin at the same.
type present[T store.Object] struct {
	once    sync.Once
	objects []T
}

// sorted returns the objects in the order of their keys. The first who asks
// sorts, outside of the informer's mutex.
func (p *present[T]) sorted() []T {
	p.once.Do(func() { sortByKey(p.objects) })
	return p.objects
}

// takePresent returns the objects that there are now; the mutex is held. The
// informer refers to them weakly: once no handler needs them, they are gone.
func (i *Informer[T]) takePresent() *present[T] {
	if p := i.present.Value(); p != nil {
		return p
	}
	p := &present[T]{objects: make([]T, 0, i.contents.objects.len)}
	for o := range i.contents.objects.all {
		p.objects = append(p.objects, o)
	}
	i.present = weak.Make(p)
	return p
}
