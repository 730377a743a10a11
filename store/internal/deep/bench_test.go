// SPDX-License-Identifier: Apache-2.0

package deep_test

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store/internal/deep"
)

// pod1k is an object of about 1 KB with three maps, shaped as a pod is.
type pod1k struct {
	Name, Namespace, UID, ResourceVersion string
	Generation                            int64
	Created                               time.Time
	Deleted                               *time.Time
	Labels, Annotations, NodeSelector     map[string]string
	Finalizers                            []string
	Spec                                  struct {
		NodeName   string
		Containers []container
	}
	Status struct {
		Phase string
		IPs   []string
	}
}

type container struct {
	Name, Image string
	Args        []string
	Env         []variable
	Port        *int32
}

type variable struct{ Name, Value string }

func newPod() *pod1k {
	p := &pod1k{
		Name: "web-6f7d8c9b5-abcde", Namespace: "default", UID: "6f1c1f1e-8d0a-4c43-9a5e-0123456789ab", ResourceVersion: "1234567",
		Generation: 3, Created: time.Now(),
		Labels:       map[string]string{"app": "web", "tier": "front", "pod-template-hash": "6f7d8c9b5"},
		Annotations:  map[string]string{"example.com/checksum": "0123456789abcdef0123456789abcdef"},
		NodeSelector: map[string]string{"kubernetes.io/os": "linux"},
		Finalizers:   []string{"example.com/hold"},
	}
	p.Spec.NodeName = "node-17"
	for i := range 2 {
		c := container{Name: "c" + strconv.Itoa(i), Image: "registry.example.com/web:v1.2.3", Args: []string{"--port=8080", "--verbose"}, Port: new(int32(8080))}
		c.Env = []variable{{"HOME", "/root"}, {"REGION", "eu-west-1"}}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	p.Status.Phase, p.Status.IPs = "Running", []string{"10.0.0.1"}
	return p
}

// BenchmarkEqual compares two equal objects that share nothing, so that all of
// both is looked at.
func BenchmarkEqual(b *testing.B) {
	x := newPod()
	y := deep.Copy(x)
	for name, equal := range map[string]func(a, b any) bool{"slipway": deep.Equal, "reflect": reflect.DeepEqual} {
		b.Run("size="+strconv.Itoa(deep.Size(x))+"/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !equal(x, y) {
					b.Fatal("not equal")
				}
			}
		})
	}
}

func BenchmarkCopy(b *testing.B) {
	x := newPod()
	b.Run("slipway", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			deep.Copy(x)
		}
	})
	b.Run("byhand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x.clone()
		}
	})
}

func BenchmarkSize(b *testing.B) {
	x := newPod()
	b.Run("slipway", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			deep.Size(x)
		}
	})
}

// clone is what a generator would write.
func (p *pod1k) clone() *pod1k {
	c := *p
	if p.Deleted != nil {
		c.Deleted = new(*p.Deleted)
	}
	c.Labels, c.Annotations, c.NodeSelector = maps.Clone(p.Labels), maps.Clone(p.Annotations), maps.Clone(p.NodeSelector)
	c.Finalizers, c.Status.IPs = slices.Clone(p.Finalizers), slices.Clone(p.Status.IPs)
	c.Spec.Containers = slices.Clone(p.Spec.Containers)
	for i := range c.Spec.Containers {
		x := &c.Spec.Containers[i]
		x.Args, x.Env, x.Port = slices.Clone(x.Args), slices.Clone(x.Env), new(*x.Port)
	}
	return &c
}
