// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
)

var (
	kindServiceAccount = store.KindName{Name: "ServiceAccount"}
	podsResource       = schema.GroupResource{Resource: "pods"}
)

// ServiceAccount gives pods that name none the service account "default" of
// their namespace, refuses those whose account does not exist, and adds the
// account's image pull secrets. With mount, it adds the volume in which
// containers find their token, where Kubernetes has it.
func ServiceAccount(mount bool) Plugin { return serviceAccount{mount} }

type serviceAccount struct{ mount bool }

func (serviceAccount) Handles(op Operation, r schema.GroupResource, sub string) bool {
	return op == Create && r == podsResource && sub == ""
}

func (a serviceAccount) Mutate(_ context.Context, r *Request) error {
	p, ok := r.Object.(*corev1.Pod)
	if !ok || p.Annotations[corev1.MirrorPodAnnotationKey] != "" {
		return nil
	}
	if p.Spec.ServiceAccountName == "" {
		p.Spec.ServiceAccountName = "default"
	}
	p.Spec.DeprecatedServiceAccount = p.Spec.ServiceAccountName
	o, err := r.Reader.Get(kindServiceAccount, store.NewKey(r.Namespace, p.Spec.ServiceAccountName))
	if errors.Is(err, store.ErrUnknownKind) {
		return nil
	}
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", r.Namespace, p.Spec.ServiceAccountName, p.Spec.ServiceAccountName)
	}
	if err != nil {
		return err
	}
	sa, ok := o.(*corev1.ServiceAccount)
	if !ok {
		return nil
	}
	if len(p.Spec.ImagePullSecrets) == 0 {
		p.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference(nil), sa.ImagePullSecrets...)
	}
	if a.mount && automount(p, sa) {
		mountToken(p)
	}
	return nil
}

// automount: what the pod says counts before what its account says.
func automount(p *corev1.Pod, sa *corev1.ServiceAccount) bool {
	if p.Spec.AutomountServiceAccountToken != nil {
		return *p.Spec.AutomountServiceAccountToken
	}
	return sa.AutomountServiceAccountToken == nil || *sa.AutomountServiceAccountToken
}

// tokenPath is where programs in pods look for their credentials.
const tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"

func mountToken(p *corev1.Pod) {
	name := fmt.Sprintf("kube-api-access-%05x", rand.N(1<<20))
	used := false
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if mounts(&list[i], tokenPath) {
				continue
			}
			list[i].VolumeMounts = append(list[i].VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath})
			used = true
		}
	}
	if used {
		p.Spec.Volumes = append(p.Spec.Volumes, tokenVolume(name))
	}
}

func mounts(c *corev1.Container, path string) bool {
	for _, m := range c.VolumeMounts {
		if m.MountPath == path {
			return true
		}
	}
	return false
}

func tokenVolume(name string) corev1.Volume {
	v := corev1.Volume{Name: name}
	v.Projected = &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(0o644)),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(3607))}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
	return v
}
