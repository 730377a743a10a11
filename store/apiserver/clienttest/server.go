// SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
	"github.com/slipway-dev/slipway/store/apiserver/builtin"
)

// Backup is a user's own type.
type Backup struct {
	store.Meta `json:"metadata"`
	Spec       BackupSpec   `json:"spec"`
	Status     BackupStatus `json:"status,omitzero"`
}

// BackupSpec is what is wanted of a [Backup].
type BackupSpec struct {
	Source string `json:"source" description:"Where the data comes from."`
	Keep   int32  `json:"keep,omitempty" description:"How many copies are kept."`
}

// BackupStatus is how a [Backup] is.
type BackupStatus struct {
	Phase  string `json:"phase,omitempty"`
	Copies int32  `json:"copies,omitempty"`
}

// DeepCopy makes Backup an object of a store.
func (b *Backup) DeepCopy() *Backup { return store.DeepCopy(b) }

// SwaggerDoc describes the type for kubectl explain.
func (Backup) SwaggerDoc() map[string]string {
	return map[string]string{"": "Backup keeps copies of a database.", "spec": "What is wanted.", "status": "How it is."}
}

// Backups is how the kind is served.
func Backups() apiserver.Resource[*Backup] {
	return apiserver.Resource[*Backup]{
		Kind: store.Kind[*Backup]{
			Name: "Backup", Group: "example.com", Version: "v1",
			Default: func(b *Backup) { b.Spec.Keep = max(b.Spec.Keep, 1) },
			Validate: func(_, b *Backup) error {
				if b.Spec.Source == "" {
					return field.Required(field.NewPath("spec", "source"), "say where the data comes from")
				}
				return nil
			},
			Immutable: []store.Field[*Backup]{{Name: "spec.source", Get: func(b *Backup) any { return b.Spec.Source }}},
		},
		ShortNames: []string{"bk"}, Categories: []string{"all"},
		Columns: []apiserver.Column[*Backup]{
			{Name: "Phase", Value: func(b *Backup) any { return b.Status.Phase }},
			{Name: "Source", Wide: true, Value: func(b *Backup) any { return b.Spec.Source }},
			apiserver.Age[*Backup](),
		},
		Scale: &apiserver.Scale[*Backup]{
			Replicas:    func(b *Backup) int32 { return b.Spec.Keep },
			SetReplicas: func(b *Backup, n int32) { b.Spec.Keep = n },
			Status:      func(b *Backup) int32 { return b.Status.Copies },
		},
	}
}

// Instance is a server that runs.
type Instance struct {
	Server     *apiserver.Server
	URL        string
	Kubeconfig []byte // of an administrator
	CA, Cert   []byte
	Key        []byte

	stop func()
	done chan error
}

// Start serves the store's objects on a port of the loopback interface, "" being
// any. Kinds are registered with the store if they are not.
func Start(ctx context.Context, st store.Store, address string, logger *slog.Logger) (*Instance, error) {
	ca, err := authn.NewAuthority("clienttest")
	if err != nil {
		return nil, err
	}
	return StartAs(ctx, st, address, ca, logger)
}

// StartAs is Start with a given authority, so that clients of an earlier server
// can go on.
func StartAs(ctx context.Context, st store.Store, address string, ca *authn.Authority, logger *slog.Logger) (*Instance, error) {
	issuer, err := authn.NewIssuer(authn.IssuerOptions{Exists: builtin.TokenOwners(st)})
	if err != nil {
		return nil, err
	}
	rbac := authz.RBAC{Store: st}
	may := authz.First(authz.Masters(), authz.Node{Store: st}, rbac)
	s, err := apiserver.New(st, apiserver.Options{
		Authenticator: authn.First(authn.Certificates(ca.Pool()), issuer, authn.Anonymous()),
		Authorizer:    may,
		Issuer:        issuer,
		Logger:        logger,
		Admission: []admission.Plugin{
			admission.NamespaceLifecycle(), admission.ServiceAccount(false), admission.LimitRanges(), admission.Priority(),
			admission.DefaultTolerations(), admission.Escalation(rbac, may), admission.ResourceQuotas(),
		},
	})
	if err != nil {
		return nil, err
	}
	kinds := builtin.All()
	for i, k := range kinds {
		if sa, ok := k.(apiserver.Resource[*corev1.ServiceAccount]); ok {
			sa.Subresources = append(sa.Subresources, builtin.TokenRequests(issuer))
			kinds[i] = sa
		}
	}
	if err := builtin.Register(s, append(kinds, Backups())...); err != nil {
		return nil, err
	}
	if err := builtin.Bootstrap(ctx, st); err != nil {
		return nil, err
	}
	return serve(ctx, s, address, ca)
}

func serve(ctx context.Context, s *apiserver.Server, address string, ca *authn.Authority) (*Instance, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	cert, key, err := ca.Client("admin", authn.GroupMasters)
	if err != nil {
		return nil, err
	}
	i := &Instance{Server: s, URL: "https://" + l.Addr().String(), CA: ca.PEM(), Cert: cert, Key: key, done: make(chan error, 1)}
	if i.Kubeconfig, err = apiserver.Kubeconfig(i.URL, i.CA, cert, key); err != nil {
		return nil, err
	}
	ctx, i.stop = context.WithCancel(ctx)
	go func() { i.done <- s.Serve(ctx, l, apiserver.ServeOptions{Authority: ca}) }() // ends with Stop
	return i, nil
}

// Stop ends the server, in order, and waits for that.
func (i *Instance) Stop() error {
	i.stop()
	if err := <-i.done; err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
