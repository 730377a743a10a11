// SPDX-License-Identifier: Apache-2.0

// Command apiserver serves a type of its own to kubectl:
//
//	go run ./examples/apiserver -kubeconfig ships.kubeconfig &
//	export KUBECONFIG=ships.kubeconfig
//	kubectl explain ship.spec
//	kubectl create -f - <<<'{apiVersion: example.com/v1, kind: Ship, metadata: {name: vasa}, spec: {cargo: 64}}'
//	kubectl get ships --watch
//
// It serves over TLS, with an authority and an administrator's certificate that
// are made when it starts, and keeps its objects in memory.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
	"github.com/slipway-dev/slipway/store/memory"
)

// Ship is a type of our own.
type Ship struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Cargo int `json:"cargo" description:"What it carries, in tons."`
	} `json:"spec" description:"What is wanted of the ship."`
	Status struct {
		Port string `json:"port,omitempty" description:"Where it is."`
	} `json:"status,omitzero"`
}

// DeepCopy makes Ship an object of a store.
func (s *Ship) DeepCopy() *Ship { return store.DeepCopy(s) }

// ships is all that there is to say of the kind.
var ships = apiserver.Resource[*Ship]{
	Kind: store.Kind[*Ship]{
		Name: "Ship", Group: "example.com", Version: "v1",
		Validate: func(_, s *Ship) error {
			if s.Spec.Cargo < 0 {
				return field.Invalid(field.NewPath("spec", "cargo"), s.Spec.Cargo, "must not be negative")
			}
			return nil
		},
	},
	Columns: []apiserver.Column[*Ship]{
		{Name: "Cargo", Type: "integer", Value: func(s *Ship) any { return s.Spec.Cargo }},
		{Name: "Port", Value: func(s *Ship) any { return s.Status.Port }},
		apiserver.Age[*Ship](),
	},
}

func main() {
	listen := flag.String("listen", "127.0.0.1:6443", "address to serve at")
	kubeconfig := flag.String("kubeconfig", "ships.kubeconfig", "file to write for kubectl")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err == nil {
		err = serve(ctx, l, *kubeconfig)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve runs the API server until the context ends.
func serve(ctx context.Context, l net.Listener, kubeconfig string) error {
	st := memory.New(memory.Options{})
	defer st.Close()
	ca, err := authn.NewAuthority("ships")
	if err != nil {
		return err
	}
	srv, err := apiserver.New(st, apiserver.Options{
		Authenticator: authn.Certificates(ca.Pool()),
		Authorizer:    authz.Masters(),
	})
	if err != nil {
		return err
	}
	if err := apiserver.Register(srv, ships); err != nil {
		return err
	}
	cert, key, err := ca.Client("captain", authn.GroupMasters)
	if err != nil {
		return err
	}
	config, err := apiserver.Kubeconfig("https://"+l.Addr().String(), ca.PEM(), cert, key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(kubeconfig, config, 0o600); err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG=%s\n", kubeconfig)
	return srv.Serve(ctx, l, apiserver.ServeOptions{Authority: ca})
}
