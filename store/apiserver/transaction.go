// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
)

// TransactionGroup is the API group of what this server has beyond Kubernetes.
const TransactionGroup = "slipway.dev"

// Transaction changes several objects of any kinds at once: all of it or
// nothing, at one resource version, and seen whole by every watcher. It is
// posted to /apis/slipway.dev/v1/transactions, where the server's store has
// transactions, and answered with its status filled in:
//
//	{"apiVersion": "slipway.dev/v1", "kind": "Transaction", "spec": {"operations": [
//	  {"op": "create", "object": {"apiVersion": "v1", "kind": "ConfigMap", …}},
//	  {"op": "update", "object": {…, "metadata": {…, "resourceVersion": "7"}}},
//	  {"op": "delete", "object": {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "a", "name": "b"}}}]}}
//
// The user needs the right to each operation, besides the right to create
// transactions; each passes admission and validation, and sees those before it.
// The first that fails is the answer, and nothing is stored. An update or delete
// demands the resource version and the UID in its object, if there are any.
type Transaction struct {
	metav1.TypeMeta `json:",inline"`
	Spec            TransactionSpec   `json:"spec"`
	Status          TransactionStatus `json:"status,omitzero"`
}

// TransactionSpec is what a [Transaction] does.
type TransactionSpec struct {
	Operations []TransactionOperation `json:"operations" description:"What is done, in order."`
}

// TransactionOperation is one step of a [Transaction].
type TransactionOperation struct {
	Op     string               `json:"op" description:"create, update or delete."`
	Object runtime.RawExtension `json:"object" description:"The object; to be deleted, its kind and name suffice."`
}

// TransactionStatus is what came of a [Transaction].
type TransactionStatus struct {
	ResourceVersion string                 `json:"resourceVersion,omitempty" description:"Of the commit."`
	Objects         []runtime.RawExtension `json:"objects,omitempty" description:"The objects as they were stored, in the order of the operations."`
}

// maxTransaction is how many operations a transaction may have.
const maxTransaction = 1000

// transactions serves them.
func transactions() *virtual {
	return question(TransactionGroup, "Transaction", "transactions", false, runTransaction)
}

// transactionStep is an operation, decoded.
type transactionStep struct {
	res    *resource
	op     store.Op
	object store.Object
}

func runTransaction(ctx context.Context, x *exchange, t *Transaction) error {
	st, ok := x.server.Store(x.user).(store.Transactor)
	if !ok {
		return apierrors.NewMethodNotSupported(schema.GroupResource{Group: TransactionGroup, Resource: "transactions"}, "create")
	}
	if n := len(t.Spec.Operations); n == 0 || n > maxTransaction {
		return apierrors.NewBadRequest(fmt.Sprintf("spec.operations: there are %d, want 1 to %d", n, maxTransaction))
	}
	steps := make([]transactionStep, len(t.Spec.Operations))
	for i, op := range t.Spec.Operations {
		var err error
		if steps[i], err = x.server.step(op); err != nil {
			return inOperation(i, err)
		}
	}
	objects := make([]store.Object, len(steps))
	revision, err := st.Txn(ctx, func(tx store.Tx) error {
		for i, s := range steps {
			o, err := tx.Write(s.res.schema, s.write())
			if err != nil {
				return inOperation(i, err)
			}
			objects[i] = o
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.Status = TransactionStatus{ResourceVersion: store.FormatRevision(revision)}
	for i, o := range objects {
		data, err := encodeJSON(steps[i].res.gvk, o)
		if err != nil {
			return err
		}
		t.Status.Objects = append(t.Status.Objects, runtime.RawExtension{Raw: data})
	}
	return nil
}

// write makes the step a write. It may be carried out again, so its object stays
// as it is.
func (s *transactionStep) write() store.Write {
	if s.op != store.Delete {
		return store.Write{Op: s.op, Object: s.object}
	}
	opts := store.WriteOptions{ResourceVersion: s.object.GetResourceVersion()}
	if uid := s.res.schema.Accessors.UID; uid != nil {
		opts.UID = uid(s.object)
	}
	return store.Write{Op: store.Delete, Key: store.KeyOf(s.object), Options: opts}
}

// step decodes an operation.
func (s *Server) step(op TransactionOperation) (transactionStep, error) {
	ops := map[string]store.Op{"create": store.Create, "update": store.Update, "delete": store.Delete}
	out := transactionStep{op: ops[op.Op]}
	if out.op == 0 {
		return out, apierrors.NewBadRequest(fmt.Sprintf("op: Unsupported value: %q: want create, update or delete", op.Op))
	}
	var kind metav1.TypeMeta
	if err := json.Unmarshal(op.Object.Raw, &kind); err != nil {
		return out, apierrors.NewBadRequest("object: " + err.Error())
	}
	gvk := schema.FromAPIVersionAndKind(kind.APIVersion, kind.Kind)
	out.res = s.registry.Load().byKind[store.KindName{Group: gvk.Group, Name: gvk.Kind}]
	if out.res == nil || out.res.gvk != gvk {
		return out, apierrors.NewBadRequest(fmt.Sprintf("object: no kind %q is served in version %q", kind.Kind, kind.APIVersion))
	}
	out.object = out.res.new()
	d := &decoder{kind: gvk, validation: validateStrict, depth: s.limits.Depth, warn: func(string) {}}
	return out, d.json(op.Object.Raw, out.object)
}

// inOperation says at which operation a transaction failed, and keeps the status
// otherwise.
func inOperation(i int, err error) error {
	e := asStatus(err, subject{verb: "create"})
	st := *e.status.DeepCopy()
	if st.Code == 0 {
		st.Code = http.StatusInternalServerError
	}
	st.Message = fmt.Sprintf("spec.operations[%d]: %s", i, st.Message)
	return &StatusError{st, err}
}

// DeepCopyObject implements runtime.Object.
func (t *Transaction) DeepCopyObject() runtime.Object { return store.DeepCopy(t) }
