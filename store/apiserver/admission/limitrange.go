// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
)

var kindLimitRange = store.KindName{Name: "LimitRange"}

// LimitRanges fills in containers' requests and limits from the limit ranges of
// their namespace, and refuses pods that are outside of them.
func LimitRanges() Plugin { return limitRanges{} }

type limitRanges struct{}

func (limitRanges) Handles(op Operation, r schema.GroupResource, sub string) bool {
	return op == Create && r == podsResource && sub == ""
}

// each calls f for each limit of the namespace.
func (limitRanges) each(r *Request, f func(*corev1.LimitRangeItem) error) error {
	var errs []error
	err := r.Reader.List(kindLimitRange, store.ListOptions{Namespace: r.Namespace}, func(o store.Object) bool {
		if l, ok := o.(*corev1.LimitRange); ok {
			for i := range l.Spec.Limits {
				if err := f(&l.Spec.Limits[i]); err != nil {
					errs = append(errs, err)
				}
			}
		}
		return true
	})
	if errors.Is(err, store.ErrUnknownKind) {
		return nil
	}
	return errors.Join(append(errs, err)...)
}

func (l limitRanges) Mutate(_ context.Context, r *Request) error {
	p, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	return l.each(r, func(item *corev1.LimitRangeItem) error {
		if item.Type != corev1.LimitTypeContainer {
			return nil
		}
		for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				fill(&list[i].Resources.Limits, item.Default)
				fill(&list[i].Resources.Requests, item.DefaultRequest)
			}
		}
		return nil
	})
}

func fill(into *corev1.ResourceList, standard corev1.ResourceList) {
	for name, q := range standard {
		if _, ok := (*into)[name]; ok {
			continue
		}
		if *into == nil {
			*into = corev1.ResourceList{}
		}
		(*into)[name] = q.DeepCopy()
	}
}

func (l limitRanges) Validate(_ context.Context, r *Request) error {
	p, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	err := l.each(r, func(item *corev1.LimitRangeItem) error {
		switch item.Type {
		case corev1.LimitTypeContainer:
			var errs []error
			for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
				errs = append(errs, inside(item, "Container", c.Resources.Requests, c.Resources.Limits))
			}
			return errors.Join(errs...)
		case corev1.LimitTypePod:
			requests, limits := sum(p)
			return inside(item, "Pod", requests, limits)
		}
		return nil
	})
	if err == nil {
		return nil
	}
	return errors.New("[" + strings.ReplaceAll(err.Error(), "\n", ", ") + "]")
}

// sum adds up what the pod's containers ask for and may use.
func sum(p *corev1.Pod) (requests, limits corev1.ResourceList) {
	requests, limits = corev1.ResourceList{}, corev1.ResourceList{}
	for _, c := range p.Spec.Containers {
		add(requests, c.Resources.Requests)
		add(limits, c.Resources.Limits)
	}
	for _, c := range p.Spec.InitContainers { // run one after the other, before the rest
		atLeast(requests, c.Resources.Requests)
		atLeast(limits, c.Resources.Limits)
	}
	return requests, limits
}

func add(into, more corev1.ResourceList) {
	for name, q := range more {
		have := into[name]
		have.Add(q)
		into[name] = have
	}
}

func atLeast(into, least corev1.ResourceList) {
	for name, q := range least {
		if have, ok := into[name]; !ok || have.Cmp(q) < 0 {
			into[name] = q.DeepCopy()
		}
	}
}

// inside checks minimum, maximum and ratio.
func inside(item *corev1.LimitRangeItem, what string, requests, limits corev1.ResourceList) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, least := range item.Min {
		switch q, ok := requests[name]; {
		case !ok:
			fail("minimum %s usage per %s is %s.  No request is specified", name, what, least.String())
		case q.Cmp(least) < 0:
			fail("minimum %s usage per %s is %s, but request is %s", name, what, least.String(), q.String())
		}
	}
	for name, most := range item.Max {
		switch q, ok := limits[name]; {
		case !ok:
			fail("maximum %s usage per %s is %s.  No limit is specified", name, what, most.String())
		case q.Cmp(most) > 0:
			fail("maximum %s usage per %s is %s, but limit is %s", name, what, most.String(), q.String())
		}
	}
	for name, most := range item.MaxLimitRequestRatio {
		if have, ok := ratio(requests, limits, name); !ok || have > most.AsApproximateFloat64() {
			fail("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, what, most.String(), have)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func ratio(requests, limits corev1.ResourceList, name corev1.ResourceName) (float64, bool) {
	var r, l resource.Quantity
	var ok bool
	if r, ok = requests[name]; !ok || r.IsZero() {
		return 0, false
	}
	if l, ok = limits[name]; !ok {
		return 0, false
	}
	return l.AsApproximateFloat64() / r.AsApproximateFloat64(), true
}
