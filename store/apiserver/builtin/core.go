// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
)

// Nodes keep the status that they are created with: agents register with it.
func Nodes() apiserver.Resource[*corev1.Node] {
	k := cluster[*corev1.Node]("", "v1", "Node")
	k.Indexes = []*store.Index[*corev1.Node]{
		store.NewIndex("spec.unschedulable", func(n *corev1.Node) string { return fmt.Sprint(n.Spec.Unschedulable) }),
	}
	info := func(f func(*corev1.NodeSystemInfo) string) func(*corev1.Node) any {
		return func(n *corev1.Node) any { return or(f(&n.Status.NodeInfo), "<unknown>") }
	}
	return apiserver.Resource[*corev1.Node]{
		Kind: k, ShortNames: []string{"no"}, KeepStatus: true,
		Columns: []apiserver.Column[*corev1.Node]{
			column("Status", nodeStatus),
			column("Roles", nodeRoles),
			apiserver.Age[*corev1.Node](),
			column("Version", func(n *corev1.Node) any { return n.Status.NodeInfo.KubeletVersion }),
			wide("Internal-IP", func(n *corev1.Node) any { return nodeAddress(n, corev1.NodeInternalIP) }),
			wide("External-IP", func(n *corev1.Node) any { return nodeAddress(n, corev1.NodeExternalIP) }),
			wide("OS-Image", info(func(i *corev1.NodeSystemInfo) string { return i.OSImage })),
			wide("Kernel-Version", info(func(i *corev1.NodeSystemInfo) string { return i.KernelVersion })),
			wide("Container-Runtime", info(func(i *corev1.NodeSystemInfo) string { return i.ContainerRuntimeVersion })),
		},
	}
}

func nodeStatus(n *corev1.Node) any {
	text := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				text = "Ready"
			} else {
				text = "NotReady"
			}
		}
	}
	if n.Spec.Unschedulable {
		text += ",SchedulingDisabled"
	}
	return text
}

func nodeRoles(n *corev1.Node) any {
	var roles []string
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		} else if key == "kubernetes.io/role" && value != "" {
			roles = append(roles, value)
		}
	}
	slices.Sort(roles)
	return or(strings.Join(slices.Compact(roles), ","), "<none>")
}

func nodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return "<none>"
}

// Namespaces stay, marked, while their spec has finalizers: a controller empties
// them and then takes those away, through the subresource finalize.
func Namespaces() apiserver.Resource[*corev1.Namespace] {
	k := cluster[*corev1.Namespace]("", "v1", "Namespace")
	k.ValidateName = label
	k.Indexes = []*store.Index[*corev1.Namespace]{
		store.NewIndex("status.phase", func(n *corev1.Namespace) string { return string(n.Status.Phase) }),
	}
	k.Default = func(n *corev1.Namespace) {
		if n.UID == "" && len(n.Spec.Finalizers) == 0 {
			n.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
		}
		metav1.SetMetaDataLabel(&n.ObjectMeta, corev1.LabelMetadataName, n.Name)
		setDefault(&n.Status.Phase, corev1.NamespaceActive)
		if n.DeletionTimestamp != nil {
			n.Status.Phase = corev1.NamespaceTerminating
		}
	}
	k.Keep = func(n *corev1.Namespace) bool { return len(n.Spec.Finalizers) > 0 }
	return apiserver.Resource[*corev1.Namespace]{
		Kind: k, ShortNames: []string{"ns"},
		Columns: []apiserver.Column[*corev1.Namespace]{
			column("Status", func(n *corev1.Namespace) any {
				if n.DeletionTimestamp != nil {
					return string(corev1.NamespaceTerminating)
				}
				return string(n.Status.Phase)
			}),
			apiserver.Age[*corev1.Namespace](),
		},
		Subresources: []apiserver.Subresource[*corev1.Namespace]{{
			Name:  "finalize",
			Kind:  schema.GroupVersionKind{Version: "v1", Kind: "Namespace"},
			Verbs: []string{"update"},
			Body:  func() any { return &corev1.Namespace{} },
			Change: func(_ context.Context, n *corev1.Namespace, body any) (any, error) {
				n.Spec.Finalizers = body.(*corev1.Namespace).Spec.Finalizers
				return n, nil
			},
		}},
	}
}

// ConfigMaps returns the kind ConfigMap of v1, to be registered, with its
// validation.
func ConfigMaps() apiserver.Resource[*corev1.ConfigMap] {
	k := kind[*corev1.ConfigMap]("", "v1", "ConfigMap")
	k.Validate = func(old, c *corev1.ConfigMap) error {
		errs := dataKeys(c.Data, field.NewPath("data"))
		errs = append(errs, dataKeys(c.BinaryData, field.NewPath("binaryData"))...)
		for key := range c.BinaryData {
			if _, twice := c.Data[key]; twice {
				errs = append(errs, field.Invalid(field.NewPath("data").Key(key), key, "duplicate of key present in binaryData"))
			}
		}
		if size := dataSize(c.Data) + dataSize(c.BinaryData); size > corev1.MaxSecretSize {
			errs = append(errs, field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
		}
		if old != nil && old.Immutable != nil && *old.Immutable {
			if c.Immutable == nil || !*c.Immutable {
				errs = append(errs, field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set"))
			}
			if !equality.Semantic.DeepEqual(old.Data, c.Data) || !equality.Semantic.DeepEqual(old.BinaryData, c.BinaryData) {
				errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
			}
		}
		return result(errs)
	}
	return apiserver.Resource[*corev1.ConfigMap]{
		Kind: k, ShortNames: []string{"cm"},
		Columns: []apiserver.Column[*corev1.ConfigMap]{
			number("Data", func(c *corev1.ConfigMap) any { return int64(len(c.Data) + len(c.BinaryData)) }),
			apiserver.Age[*corev1.ConfigMap](),
		},
	}
}

func dataKeys[V any](data map[string]V, path *field.Path) (errs field.ErrorList) {
	for key := range data {
		if bad := validation.IsConfigMapKey(key); len(bad) > 0 {
			errs = append(errs, field.Invalid(path.Key(key), key, strings.Join(bad, ", ")))
		}
	}
	return errs
}

func dataSize[V string | []byte](data map[string]V) int {
	n := 0
	for _, v := range data {
		n += len(v)
	}
	return n
}

// Secrets returns the kind Secret of v1, to be registered, with its defaults
// and validation.
func Secrets() apiserver.Resource[*corev1.Secret] {
	k := kind[*corev1.Secret]("", "v1", "Secret")
	k.Indexes = []*store.Index[*corev1.Secret]{
		store.NewIndex("type", func(s *corev1.Secret) string { return string(s.Type) }),
	}
	k.Immutable = []store.Field[*corev1.Secret]{{Name: "type", Get: func(s *corev1.Secret) any { return s.Type }}}
	k.Default = func(s *corev1.Secret) {
		setDefault(&s.Type, corev1.SecretTypeOpaque)
		for key, text := range s.StringData {
			if s.Data == nil {
				s.Data = map[string][]byte{}
			}
			s.Data[key] = []byte(text)
		}
		s.StringData = nil
	}
	k.Validate = func(old, s *corev1.Secret) error {
		errs := dataKeys(s.Data, field.NewPath("data"))
		if dataSize(s.Data) > corev1.MaxSecretSize {
			errs = append(errs, field.TooLong(field.NewPath("data"), "", corev1.MaxSecretSize))
		}
		if s.Type == corev1.SecretTypeTLS {
			for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
				if _, ok := s.Data[key]; !ok {
					errs = append(errs, field.Required(field.NewPath("data").Key(key), ""))
				}
			}
		}
		if old != nil && old.Immutable != nil && *old.Immutable {
			if s.Immutable == nil || !*s.Immutable {
				errs = append(errs, field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set"))
			}
			if !equality.Semantic.DeepEqual(old.Data, s.Data) {
				errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
			}
		}
		return result(errs)
	}
	return apiserver.Resource[*corev1.Secret]{
		Kind: k,
		Columns: []apiserver.Column[*corev1.Secret]{
			column("Type", func(s *corev1.Secret) any { return string(s.Type) }),
			number("Data", func(s *corev1.Secret) any { return int64(len(s.Data)) }),
			apiserver.Age[*corev1.Secret](),
		},
	}
}

// Services have no cluster IP by themselves: an admission plugin allocates it, in
// the transaction.
func Services() apiserver.Resource[*corev1.Service] {
	k := kind[*corev1.Service]("", "v1", "Service")
	k.ValidateName = func(name string) error { return named(validation.IsDNS1035Label(name)) }
	k.Indexes = []*store.Index[*corev1.Service]{
		store.NewIndex("spec.clusterIP", func(s *corev1.Service) string { return s.Spec.ClusterIP }),
		store.NewIndex("spec.type", func(s *corev1.Service) string { return string(s.Spec.Type) }),
	}
	k.Default = defaultService
	k.Validate = validateService
	return apiserver.Resource[*corev1.Service]{
		Kind: k, ShortNames: []string{"svc"}, Categories: []string{"all"},
		Columns: []apiserver.Column[*corev1.Service]{
			column("Type", func(s *corev1.Service) any { return string(s.Spec.Type) }),
			column("Cluster-IP", func(s *corev1.Service) any { return or(s.Spec.ClusterIP, "<none>") }),
			column("External-IP", externalIP),
			column("Port(s)", servicePorts),
			apiserver.Age[*corev1.Service](),
			wide("Selector", func(s *corev1.Service) any { return or(labelText(s.Spec.Selector), "<none>") }),
		},
	}
}

func defaultService(s *corev1.Service) {
	setDefault(&s.Spec.Type, corev1.ServiceTypeClusterIP)
	setDefault(&s.Spec.SessionAffinity, corev1.ServiceAffinityNone)
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		setPointer(&s.Spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
		setPointer(&s.Spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack)
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
		}
	}
	if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		setDefault(&s.Spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		setDefault(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
}

func validateService(old, s *corev1.Service) error {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if len(s.Spec.Ports) == 0 && s.Spec.ClusterIP != corev1.ClusterIPNone && s.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	types := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort}
	if !slices.Contains(types, s.Spec.Type) {
		errs = append(errs, field.NotSupported(path.Child("type"), s.Spec.Type, types))
	}
	names := map[string]bool{}
	for i, p := range s.Spec.Ports {
		at := path.Child("ports").Index(i)
		if p.Name == "" && len(s.Spec.Ports) > 1 {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if names[p.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
		}
		names[p.Name] = true
		if bad := validation.IsValidPortNum(int(p.Port)); len(bad) > 0 {
			errs = append(errs, field.Invalid(at.Child("port"), p.Port, strings.Join(bad, ", ")))
		}
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
	}
	external := corev1.ServiceTypeExternalName
	if old != nil && old.Spec.ClusterIP != "" && s.Spec.ClusterIP != old.Spec.ClusterIP && old.Spec.Type != external && s.Spec.Type != external {
		errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), s.Spec.ClusterIP, "may not change once set"))
	}
	return result(errs)
}

func externalIP(s *corev1.Service) any {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var ips []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			ips = append(ips, or(i.IP, i.Hostname))
		}
		return or(strings.Join(append(ips, s.Spec.ExternalIPs...), ","), "<pending>")
	}
	return or(strings.Join(s.Spec.ExternalIPs, ","), "<none>")
}

func servicePorts(s *corev1.Service) any {
	return or(join(s.Spec.Ports, func(p corev1.ServicePort) string {
		if p.NodePort > 0 {
			return fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
		return fmt.Sprintf("%d/%s", p.Port, p.Protocol)
	}), "<none>")
}

func labelText(m map[string]string) string {
	var parts []string
	for k, v := range m {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// ServiceAccounts have no token subresource by themselves: see [TokenRequests].
func ServiceAccounts() apiserver.Resource[*corev1.ServiceAccount] {
	return apiserver.Resource[*corev1.ServiceAccount]{
		Kind: kind[*corev1.ServiceAccount]("", "v1", "ServiceAccount"), ShortNames: []string{"sa"},
		Columns: []apiserver.Column[*corev1.ServiceAccount]{
			number("Secrets", func(s *corev1.ServiceAccount) any { return int64(len(s.Secrets)) }),
			apiserver.Age[*corev1.ServiceAccount](),
		},
	}
}

// Events are selected by the object that they are about.
func Events() apiserver.Resource[*corev1.Event] {
	k := kind[*corev1.Event]("", "v1", "Event")
	add := func(name string, f func(*corev1.Event) string) {
		k.Indexes = append(k.Indexes, store.NewIndex(name, f))
	}
	add("involvedObject.kind", func(e *corev1.Event) string { return e.InvolvedObject.Kind })
	add("involvedObject.namespace", func(e *corev1.Event) string { return e.InvolvedObject.Namespace })
	add("involvedObject.name", func(e *corev1.Event) string { return e.InvolvedObject.Name })
	add("involvedObject.uid", func(e *corev1.Event) string { return string(e.InvolvedObject.UID) })
	add("reason", func(e *corev1.Event) string { return e.Reason })
	add("type", func(e *corev1.Event) string { return e.Type })
	k.Validate = func(_, e *corev1.Event) error {
		if ns := e.InvolvedObject.Namespace; ns != "" && ns != e.Namespace {
			return field.Invalid(field.NewPath("involvedObject", "namespace"), ns, "does not match event.namespace")
		}
		return nil
	}
	return apiserver.Resource[*corev1.Event]{
		Kind: k, ShortNames: []string{"ev"},
		Columns: []apiserver.Column[*corev1.Event]{
			column("Last Seen", func(e *corev1.Event) any { return apiserver.Since(lastSeen(e)) }),
			column("Type", func(e *corev1.Event) any { return e.Type }),
			column("Reason", func(e *corev1.Event) any { return e.Reason }),
			column("Object", func(e *corev1.Event) any {
				return strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
			}),
			wide("Subobject", func(e *corev1.Event) any { return e.InvolvedObject.FieldPath }),
			wide("Source", func(e *corev1.Event) any { return or(e.Source.Component, e.ReportingController) }),
			column("Message", func(e *corev1.Event) any { return strings.TrimSpace(e.Message) }),
			wide("First Seen", func(e *corev1.Event) any { return apiserver.Since(firstSeen(e)) }),
			apiserver.Column[*corev1.Event]{Name: "Count", Type: "integer", Wide: true, Value: func(e *corev1.Event) any { return max(int64(e.Count), 1) }},
			wide("Name", func(e *corev1.Event) any { return e.Name }),
		},
	}
}

// PersistentVolumes returns the kind PersistentVolume of v1, to be registered.
func PersistentVolumes() apiserver.Resource[*corev1.PersistentVolume] {
	return apiserver.Resource[*corev1.PersistentVolume]{
		Kind: cluster[*corev1.PersistentVolume]("", "v1", "PersistentVolume"), ShortNames: []string{"pv"},
		Columns: []apiserver.Column[*corev1.PersistentVolume]{
			column("Capacity", func(v *corev1.PersistentVolume) any { return quantity(v.Spec.Capacity, corev1.ResourceStorage) }),
			column("Access Modes", func(v *corev1.PersistentVolume) any { return accessModes(v.Spec.AccessModes) }),
			column("Reclaim Policy", func(v *corev1.PersistentVolume) any { return string(v.Spec.PersistentVolumeReclaimPolicy) }),
			column("Status", func(v *corev1.PersistentVolume) any { return string(v.Status.Phase) }),
			column("Claim", func(v *corev1.PersistentVolume) any {
				if v.Spec.ClaimRef == nil {
					return ""
				}
				return v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name
			}),
			column("StorageClass", func(v *corev1.PersistentVolume) any { return v.Spec.StorageClassName }),
			apiserver.Age[*corev1.PersistentVolume](),
		},
	}
}

// PersistentVolumeClaims returns the kind PersistentVolumeClaim of v1, to be
// registered.
func PersistentVolumeClaims() apiserver.Resource[*corev1.PersistentVolumeClaim] {
	return apiserver.Resource[*corev1.PersistentVolumeClaim]{
		Kind: kind[*corev1.PersistentVolumeClaim]("", "v1", "PersistentVolumeClaim"), ShortNames: []string{"pvc"},
		Columns: []apiserver.Column[*corev1.PersistentVolumeClaim]{
			column("Status", func(c *corev1.PersistentVolumeClaim) any { return string(c.Status.Phase) }),
			column("Volume", func(c *corev1.PersistentVolumeClaim) any { return c.Spec.VolumeName }),
			column("Capacity", func(c *corev1.PersistentVolumeClaim) any { return quantity(c.Status.Capacity, corev1.ResourceStorage) }),
			column("Access Modes", func(c *corev1.PersistentVolumeClaim) any { return accessModes(c.Status.AccessModes) }),
			apiserver.Age[*corev1.PersistentVolumeClaim](),
		},
	}
}

// ResourceQuotas returns the kind ResourceQuota of v1, to be registered.
func ResourceQuotas() apiserver.Resource[*corev1.ResourceQuota] {
	text := func(hard, used corev1.ResourceList, limits bool) string {
		var parts []string
		for name, h := range hard {
			if strings.HasPrefix(string(name), "limits.") == limits {
				u := used[name]
				parts = append(parts, fmt.Sprintf("%s: %s/%s", name, u.String(), h.String()))
			}
		}
		slices.Sort(parts)
		return strings.Join(parts, ", ")
	}
	return apiserver.Resource[*corev1.ResourceQuota]{
		Kind: kind[*corev1.ResourceQuota]("", "v1", "ResourceQuota"), ShortNames: []string{"quota"},
		Columns: []apiserver.Column[*corev1.ResourceQuota]{
			column("Request", func(q *corev1.ResourceQuota) any { return text(q.Status.Hard, q.Status.Used, false) }),
			column("Limit", func(q *corev1.ResourceQuota) any { return text(q.Status.Hard, q.Status.Used, true) }),
			apiserver.Age[*corev1.ResourceQuota](),
		},
	}
}

// LimitRanges returns the kind LimitRange of v1, to be registered.
func LimitRanges() apiserver.Resource[*corev1.LimitRange] {
	return apiserver.Resource[*corev1.LimitRange]{
		Kind: kind[*corev1.LimitRange]("", "v1", "LimitRange"), ShortNames: []string{"limits"},
		Columns: []apiserver.Column[*corev1.LimitRange]{
			column("Created At", func(l *corev1.LimitRange) any { return l.CreationTimestamp.UTC().Format("2006-01-02T15:04:05Z07:00") }),
		},
	}
}

// ReplicationControllers returns the kind ReplicationController of v1, to be
// registered, with its defaults and its scale subresource.
func ReplicationControllers() apiserver.Resource[*corev1.ReplicationController] {
	template := func(r *corev1.ReplicationController) *corev1.PodTemplateSpec {
		if r.Spec.Template == nil {
			return &corev1.PodTemplateSpec{}
		}
		return r.Spec.Template
	}
	k := kind[*corev1.ReplicationController]("", "v1", "ReplicationController")
	k.Default = func(r *corev1.ReplicationController) {
		setPointer(&r.Spec.Replicas, 1)
		if r.Spec.Template != nil {
			defaultPodSpec(&r.Spec.Template.Spec)
			if len(r.Spec.Selector) == 0 {
				r.Spec.Selector = r.Spec.Template.Labels
			}
		}
	}
	return apiserver.Resource[*corev1.ReplicationController]{
		Kind: k, ShortNames: []string{"rc"}, Categories: []string{"all"},
		Columns: columns([]apiserver.Column[*corev1.ReplicationController]{
			number("Desired", func(r *corev1.ReplicationController) any { return int64(deref(r.Spec.Replicas)) }),
			number("Current", func(r *corev1.ReplicationController) any { return int64(r.Status.Replicas) }),
			number("Ready", func(r *corev1.ReplicationController) any { return int64(r.Status.ReadyReplicas) }),
			apiserver.Age[*corev1.ReplicationController](),
		}, workload(template, nil), []apiserver.Column[*corev1.ReplicationController]{
			wide("Selector", func(r *corev1.ReplicationController) any { return labelText(r.Spec.Selector) }),
		}),
		Scale: &apiserver.Scale[*corev1.ReplicationController]{
			Replicas:    func(r *corev1.ReplicationController) int32 { return deref(r.Spec.Replicas) },
			SetReplicas: func(r *corev1.ReplicationController, n int32) { r.Spec.Replicas = &n },
			Status:      func(r *corev1.ReplicationController) int32 { return r.Status.Replicas },
			Selector:    func(r *corev1.ReplicationController) string { return labelText(r.Spec.Selector) },
		},
	}
}

func quantity(l corev1.ResourceList, name corev1.ResourceName) string {
	q, ok := l[name]
	if !ok {
		return ""
	}
	return q.String()
}

func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	short := map[corev1.PersistentVolumeAccessMode]string{
		corev1.ReadWriteOnce: "RWO", corev1.ReadOnlyMany: "ROX", corev1.ReadWriteMany: "RWX", corev1.ReadWriteOncePod: "RWOP",
	}
	return join(modes, func(m corev1.PersistentVolumeAccessMode) string { return short[m] })
}
