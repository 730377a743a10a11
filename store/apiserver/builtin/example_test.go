// SPDX-License-Identifier: Apache-2.0

package builtin_test

import (
	"context"
	"fmt"
	"log"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/builtin"
	"github.com/slipway-dev/slipway/store/memory"
)

// Kubernetes' kinds, with their defaults.
func Example() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	srv, err := apiserver.New(st, apiserver.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := builtin.Register(srv, builtin.All()...); err != nil {
		log.Fatal(err)
	}
	pods, err := store.Lookup[*corev1.Pod](srv.Store(&authn.User{Name: "me"}), store.KindName{Name: "Pod"})
	if err != nil {
		log.Fatal(err)
	}
	p, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx:1"}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Status.Phase, p.Spec.RestartPolicy, p.Spec.Containers[0].ImagePullPolicy)
	// Output: Pending Always IfNotPresent
}
