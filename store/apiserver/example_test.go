// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
	"github.com/slipway-dev/slipway/store/memory"
)

// Widget is a user's own type.
type Widget struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Size int `json:"size"`
	} `json:"spec"`
}

func (w *Widget) DeepCopy() *Widget { return store.DeepCopy(w) }

// A kind of one's own, as kubectl get shows it.
func Example() {
	st := memory.New(memory.Options{})
	defer st.Close()
	srv, err := apiserver.New(st, apiserver.Options{})
	if err != nil {
		log.Fatal(err)
	}
	err = apiserver.Register(srv, apiserver.Resource[*Widget]{
		Kind:    store.Kind[*Widget]{Name: "Widget", Group: "example.com", Version: "v1"},
		Columns: []apiserver.Column[*Widget]{{Name: "Size", Type: "integer", Value: func(w *Widget) any { return w.Spec.Size }}},
	})
	if err != nil {
		log.Fatal(err)
	}
	h := httptest.NewServer(srv)
	defer h.Close()

	const path = "/apis/example.com/v1/namespaces/default/widgets"
	body := "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 7}\n"
	resp, err := http.Post(h.URL+path, "application/yaml", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	r, err := http.NewRequest("GET", h.URL+path+"?includeObject=None", nil)
	if err != nil {
		log.Fatal(err)
	}
	r.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	if resp, err = http.DefaultClient.Do(r); err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	table, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Contains(string(table), `"cells":["w",7]`))
	// Output: true
}

// A component in the same process passes the same gates as one that comes by
// HTTP.
func ExampleServer_Store() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	srv, err := apiserver.New(st, apiserver.Options{Authorizer: authz.Func(
		func(_ context.Context, a authz.Attributes) (authz.Decision, string, error) {
			if a.Verb == "get" {
				return authz.Allow, "", nil
			}
			return authz.Deny, "look, but don't touch", nil
		})})
	if err != nil {
		log.Fatal(err)
	}
	if err := apiserver.Register(srv, apiserver.Resource[*Widget]{Kind: store.Kind[*Widget]{Name: "Widget", Version: "v1"}}); err != nil {
		log.Fatal(err)
	}
	widgets, err := store.Lookup[*Widget](srv.Store(&authn.User{Name: "visitor"}), store.KindName{Name: "Widget"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = widgets.Create(ctx, &Widget{Meta: store.Meta{Namespace: "default", Name: "w"}})
	fmt.Println(apierrors.IsForbidden(err), err)
	// Output: true widgets "w" is forbidden: User "visitor" cannot create resource "widgets" in API group "" in the namespace "default": look, but don't touch
}
