// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
)

var kindPriorityClass = store.KindName{Group: schedulingv1.GroupName, Name: "PriorityClass"}

// systemPriorities are the classes that are there without anybody creating them.
var systemPriorities = map[string]int32{"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}

// Priority sets pods' priority from their priority class, or from the class that
// is the global default, and refuses pods whose class does not exist.
func Priority() Plugin { return priority{} }

type priority struct{}

func (priority) Handles(op Operation, r schema.GroupResource, sub string) bool {
	return op == Create && r == podsResource && sub == ""
}

func (priority) Mutate(_ context.Context, r *Request) error {
	p, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	value, policy, err := classOf(r, p)
	if err != nil {
		return err
	}
	if p.Spec.Priority != nil && *p.Spec.Priority != value {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *p.Spec.Priority, value)
	}
	p.Spec.Priority = &value
	if p.Spec.PreemptionPolicy == nil {
		p.Spec.PreemptionPolicy = &policy
	}
	return nil
}

func classOf(r *Request, p *corev1.Pod) (int32, corev1.PreemptionPolicy, error) {
	name := p.Spec.PriorityClassName
	if value, ok := systemPriorities[name]; ok {
		return value, corev1.PreemptLowerPriority, nil
	}
	if name == "" {
		return globalDefault(r, p)
	}
	o, err := r.Reader.Get(kindPriorityClass, store.Key{Name: name})
	switch {
	case errors.Is(err, store.ErrUnknownKind):
		return 0, corev1.PreemptLowerPriority, nil
	case errors.Is(err, store.ErrNotFound):
		return 0, "", fmt.Errorf("no PriorityClass with name %s was found", name)
	case err != nil:
		return 0, "", err
	}
	c := o.(*schedulingv1.PriorityClass)
	return c.Value, preemption(c), nil
}

func globalDefault(r *Request, p *corev1.Pod) (value int32, policy corev1.PreemptionPolicy, err error) {
	policy = corev1.PreemptLowerPriority
	found := false
	err = r.Reader.List(kindPriorityClass, store.ListOptions{}, func(o store.Object) bool {
		c := o.(*schedulingv1.PriorityClass)
		if c.GlobalDefault && (!found || c.Value < value) { // of several, the lowest
			found, value, policy = true, c.Value, preemption(c)
			p.Spec.PriorityClassName = c.Name
		}
		return true
	})
	if errors.Is(err, store.ErrUnknownKind) {
		err = nil
	}
	return value, policy, err
}

func preemption(c *schedulingv1.PriorityClass) corev1.PreemptionPolicy {
	if c.PreemptionPolicy == nil {
		return corev1.PreemptLowerPriority
	}
	return *c.PreemptionPolicy
}

// DefaultTolerations lets pods stay for five minutes on a node that is not ready
// or can't be reached, unless they say otherwise.
func DefaultTolerations() Plugin { return defaultTolerations{} }

type defaultTolerations struct{}

func (defaultTolerations) Handles(op Operation, r schema.GroupResource, sub string) bool {
	return op == Create && r == podsResource && sub == ""
}

func (defaultTolerations) Mutate(_ context.Context, r *Request) error {
	p, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !tolerates(p, key) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300)),
			})
		}
	}
	return nil
}

func tolerates(p *corev1.Pod, key string) bool {
	for _, t := range p.Spec.Tolerations {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}
