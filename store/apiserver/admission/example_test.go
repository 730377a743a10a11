// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"fmt"
	"log"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/memory"
)

type note struct {
	store.Meta `json:"metadata"`
}

func (n *note) DeepCopy() *note { return store.DeepCopy(n) }

// creator notes who has created an object.
type creator struct{}

func (creator) Handles(op admission.Operation, _ schema.GroupResource, sub string) bool {
	return op == admission.Create && sub == ""
}

func (creator) Mutate(_ context.Context, r *admission.Request) error {
	r.Object.SetAnnotations(map[string]string{"example.com/creator": r.User.Name})
	return nil
}

// A plugin of one's own.
func Example() {
	st := memory.New(memory.Options{})
	defer st.Close()
	srv, err := apiserver.New(st, apiserver.Options{Admission: []admission.Plugin{creator{}}})
	if err != nil {
		log.Fatal(err)
	}
	if err := apiserver.Register(srv, apiserver.Resource[*note]{Kind: store.Kind[*note]{Name: "Note", Version: "v1"}}); err != nil {
		log.Fatal(err)
	}
	notes, err := store.Lookup[*note](srv.Store(&authn.User{Name: "bob"}), store.KindName{Name: "Note"})
	if err != nil {
		log.Fatal(err)
	}
	n, err := notes.Create(context.Background(), &note{Meta: store.Meta{Namespace: "a", Name: "n"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n.Annotations)
	// Output: map[example.com/creator:bob]
}
