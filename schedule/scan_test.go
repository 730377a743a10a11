// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"testing"
)

func benchNodes(t testing.TB, c *Cluster, n int) {
	t.Helper()
	for i := range n {
		err := c.AddNode(&Node{
			Name:        fmt.Sprintf("node-%d", i),
			Labels:      map[string]string{LabelHostname: fmt.Sprintf("node-%d", i), LabelZone: fmt.Sprintf("zone-%d", i%3)},
			Allocatable: Resources{CPU: 4000, Memory: 32 << 30, Pods: 110},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTextbook(t *testing.T) {
	c, err := NewCluster(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, cpus := range []int64{4, 10, 15} {
		if err := c.AddNode(&Node{Name: fmt.Sprintf("cpus-%d", cpus), Allocatable: Resources{CPU: cpus * 1000}}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := c.Schedule(&Pod{Name: "five", Requests: Resources{CPU: 5000}})
	if err != nil {
		t.Fatal(err)
	}
	if d.Node.Name != "cpus-15" || d.Feasible != 2 {
		t.Errorf("placed on %s, %d feasible; want cpus-15, 2", d.Node.Name, d.Feasible)
	}
	_, err = c.Schedule(&Pod{Name: "16", Requests: Resources{CPU: 16000}})
	fmt.Println(err)
}

func BenchmarkScanX(b *testing.B) {
	c, _ := NewCluster(1)
	benchNodes(b, c, 5000)
	pod := &Pod{Name: "a", Requests: Resources{CPU: 100, Memory: 500 << 20}}
	b.ReportAllocs()
	for b.Loop() {
		c.table.version++
		for _, s := range c.caches {
			s.cache.valid = false
		}
		if _, err := c.Schedule(pod); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5000, "ns/node")
}

func BenchmarkPlaceX(b *testing.B) {
	c, _ := NewCluster(1)
	benchNodes(b, c, 5000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		pod := &Pod{Name: fmt.Sprint("a", i), Requests: Resources{CPU: 10, Memory: 50 << 20}}
		i++
		if _, err := c.Place(pod); err != nil {
			b.Fatal(err)
		}
		if i%10000 == 0 {
			for j := range i {
				if c.Pod("/"+fmt.Sprint("a", j)) != nil {
					c.RemovePod("/" + fmt.Sprint("a", j))
				}
			}
		}
	}
}
