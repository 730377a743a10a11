// SPDX-License-Identifier: Apache-2.0

package kubetypes_test

import (
	"context"
	"fmt"
	"log"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-dev/slipway/examples/kubetypes"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

func Example() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	pods, err := store.Register(st, kubetypes.Pods())
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"db", "web"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		if _, err := pods.Create(ctx, pod); err != nil {
			log.Fatal(err)
		}
	}
	_, err = pods.Patch(ctx, store.NewKey("default", "web"), func(p *corev1.Pod) error {
		p.Spec.NodeName = "node-1"
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	for p, err := range pods.List(ctx, store.ListOptions{Fields: kubetypes.OnNode("node-1")}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(p.Name, "generation", p.Generation, "version", p.ResourceVersion)
	}
	// Output: web generation 2 version 4
}
