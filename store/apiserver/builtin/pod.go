// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"net/http"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
)

// Pods are selected by node, phase, service account and restart policy. They can
// be bound to nodes and evicted; logs and streams are for the one who runs them
// to add, as further subresources.
func Pods() apiserver.Resource[*corev1.Pod] {
	k := kind[*corev1.Pod]("", "v1", "Pod")
	k.Indexes = []*store.Index[*corev1.Pod]{
		store.NewIndex("spec.nodeName", func(p *corev1.Pod) string { return p.Spec.NodeName }),
		store.NewIndex("status.phase", func(p *corev1.Pod) string { return string(p.Status.Phase) }),
		store.NewIndex("spec.serviceAccountName", func(p *corev1.Pod) string { return p.Spec.ServiceAccountName }),
		store.NewIndex("spec.restartPolicy", func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) }),
		store.NewIndex("spec.schedulerName", func(p *corev1.Pod) string { return p.Spec.SchedulerName }),
		store.NewIndex("status.podIP", func(p *corev1.Pod) string { return p.Status.PodIP }),
	}
	k.Default = defaultPod
	k.Validate = validatePod
	k.Keep = func(p *corev1.Pod) bool {
		return p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds > 0
	}
	return apiserver.Resource[*corev1.Pod]{
		Kind: k, ShortNames: []string{"po"}, Categories: []string{"all"},
		Columns: []apiserver.Column[*corev1.Pod]{
			column("Ready", func(p *corev1.Pod) any { return podReady(p) }),
			column("Status", func(p *corev1.Pod) any { return podStatus(p) }),
			column("Restarts", func(p *corev1.Pod) any { return podRestarts(p) }),
			apiserver.Age[*corev1.Pod](),
			wide("IP", func(p *corev1.Pod) any { return or(p.Status.PodIP, "<none>") }),
			wide("Node", func(p *corev1.Pod) any { return or(p.Spec.NodeName, "<none>") }),
			wide("Nominated Node", func(p *corev1.Pod) any { return or(p.Status.NominatedNodeName, "<none>") }),
			wide("Readiness Gates", func(p *corev1.Pod) any { return readinessGates(p) }),
		},
		Grace:        podGrace,
		Subresources: []apiserver.Subresource[*corev1.Pod]{binding(), eviction()},
	}
}

// podGrace: what runs nowhere, or no more, needs no time to end.
func podGrace(p *corev1.Pod, asked *int64) int64 {
	switch {
	case p.Spec.NodeName == "", p.Status.Phase == corev1.PodFailed, p.Status.Phase == corev1.PodSucceeded:
		return 0
	case asked != nil:
		return *asked
	case p.Spec.TerminationGracePeriodSeconds != nil:
		return *p.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

// binding is how a scheduler puts a pod on a node.
func binding() apiserver.Subresource[*corev1.Pod] {
	return apiserver.Subresource[*corev1.Pod]{
		Name: "binding",
		Kind: schema.GroupVersionKind{Version: "v1", Kind: "Binding"},
		Body: func() any { return &corev1.Binding{} },
		Change: func(_ context.Context, p *corev1.Pod, body any) (any, error) {
			b := body.(*corev1.Binding)
			conflict := func(format string, args ...any) error {
				return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, p.Name, fmt.Errorf(format, args...))
			}
			switch {
			case b.Target.Name == "" || b.Target.Kind != "" && b.Target.Kind != "Node":
				return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, p.Name, field.ErrorList{field.Required(field.NewPath("target", "name"), "")})
			case b.UID != "" && b.UID != p.UID:
				return nil, conflict("Precondition failed: UID in precondition: %v, UID in object meta: %v", b.UID, p.UID)
			case p.DeletionTimestamp != nil:
				return nil, conflict("pod %s is being deleted, cannot be assigned to a host", p.Name)
			case p.Spec.NodeName != "":
				return nil, conflict("pod %s is already assigned to node %q", p.Name, p.Spec.NodeName)
			case len(p.Spec.SchedulingGates) != 0:
				return nil, conflict("pod %s has non-empty .spec.schedulingGates", p.Name)
			}
			p.Spec.NodeName = b.Target.Name
			for key, value := range b.Annotations {
				metav1.SetMetaDataAnnotation(&p.ObjectMeta, key, value)
			}
			setCondition(p, corev1.PodScheduled)
			return nil, nil
		},
	}
}

func setCondition(p *corev1.Pod, t corev1.PodConditionType) {
	c := corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now().Rfc3339Copy()}
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			if p.Status.Conditions[i].Status != c.Status {
				p.Status.Conditions[i] = c
			}
			return
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, c)
}

// eviction deletes a pod. Disruption budgets are for an admission plugin on
// pods/eviction to keep.
func eviction() apiserver.Subresource[*corev1.Pod] {
	return apiserver.Subresource[*corev1.Pod]{
		Name: "eviction",
		Kind: schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"},
		Serve: func(_ http.ResponseWriter, c *apiserver.Call) {
			var e policyv1.Eviction
			if err := c.Decode(&e); err != nil {
				c.Fail(err)
				return
			}
			opts := e.DeleteOptions
			if opts == nil {
				opts = &metav1.DeleteOptions{}
			}
			if err := c.Delete(opts); err != nil {
				c.Fail(err)
				return
			}
			c.Succeed(http.StatusCreated)
		},
	}
}

func defaultPod(p *corev1.Pod) {
	defaultPodSpec(&p.Spec)
	if p.UID == "" { // new
		setDefault(&p.Status.Phase, corev1.PodPending)
		setDefault(&p.Status.QOSClass, qosClass(&p.Spec))
	}
}

func defaultPodSpec(s *corev1.PodSpec) {
	setDefault(&s.RestartPolicy, corev1.RestartPolicyAlways)
	setDefault(&s.DNSPolicy, corev1.DNSClusterFirst)
	setDefault(&s.SchedulerName, corev1.DefaultSchedulerName)
	setPointer(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	setPointer(&s.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if s.SecurityContext == nil {
		s.SecurityContext = &corev1.PodSecurityContext{}
	}
	if s.ServiceAccountName == "" {
		s.ServiceAccountName = s.DeprecatedServiceAccount
	}
	s.DeprecatedServiceAccount = s.ServiceAccountName
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i])
	}
}

func defaultContainer(c *corev1.Container) {
	setDefault(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setDefault(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = corev1.PullIfNotPresent
		name := c.Image[strings.LastIndexByte(c.Image, '/')+1:]
		if strings.HasSuffix(name, ":latest") || !strings.ContainsAny(name, ":@") {
			c.ImagePullPolicy = corev1.PullAlways
		}
	}
	for i := range c.Ports {
		setDefault(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for name, q := range c.Resources.Limits { // what may be used is asked for
		if _, ok := c.Resources.Requests[name]; !ok {
			if c.Resources.Requests == nil {
				c.Resources.Requests = corev1.ResourceList{}
			}
			c.Resources.Requests[name] = q.DeepCopy()
		}
	}
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if probe != nil {
			setDefault(&probe.TimeoutSeconds, 1)
			setDefault(&probe.PeriodSeconds, 10)
			setDefault(&probe.SuccessThreshold, 1)
			setDefault(&probe.FailureThreshold, 3)
			if h := probe.HTTPGet; h != nil {
				setDefault(&h.Path, "/")
				setDefault(&h.Scheme, corev1.URISchemeHTTP)
			}
		}
	}
}

// qosClass says how dear a pod is to its node.
func qosClass(s *corev1.PodSpec) corev1.PodQOSClass {
	guaranteed, best := true, true
	for _, c := range append(append([]corev1.Container(nil), s.InitContainers...), s.Containers...) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, limited := c.Resources.Limits[name]
			request, requested := c.Resources.Requests[name]
			best = best && !limited && !requested
			guaranteed = guaranteed && limited && requested && limit.Cmp(request) == 0
		}
	}
	switch {
	case best:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func validatePod(old, p *corev1.Pod) error {
	path := field.NewPath("spec")
	if old != nil {
		return result(validatePodUpdate(old, p, path))
	}
	return result(validatePodSpec(&p.Spec, path))
}

// validatePodSpec checks what a pod can't run without.
func validatePodSpec(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	volumes := map[string]bool{}
	for i, v := range s.Volumes {
		at := path.Child("volumes").Index(i).Child("name")
		if bad := validation.IsDNS1123Label(v.Name); len(bad) > 0 {
			errs = append(errs, field.Invalid(at, v.Name, strings.Join(bad, ", ")))
		}
		if volumes[v.Name] {
			errs = append(errs, field.Duplicate(at, v.Name))
		}
		volumes[v.Name] = true
	}
	names := map[string]bool{}
	for i := range s.InitContainers {
		errs = append(errs, validateContainer(&s.InitContainers[i], names, volumes, path.Child("initContainers").Index(i))...)
	}
	for i := range s.Containers {
		errs = append(errs, validateContainer(&s.Containers[i], names, volumes, path.Child("containers").Index(i))...)
	}
	switch s.RestartPolicy {
	case corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	default:
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), s.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	if n := s.TerminationGracePeriodSeconds; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *n, "must be greater than or equal to 0"))
	}
	return errs
}

func validateContainer(c *corev1.Container, names, volumes map[string]bool, path *field.Path) (errs field.ErrorList) {
	switch bad := validation.IsDNS1123Label(c.Name); {
	case c.Name == "":
		errs = append(errs, field.Required(path.Child("name"), ""))
	case len(bad) > 0:
		errs = append(errs, field.Invalid(path.Child("name"), c.Name, strings.Join(bad, ", ")))
	case names[c.Name]:
		errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
	}
	names[c.Name] = true
	if strings.TrimSpace(c.Image) == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	}
	for i, p := range c.Ports {
		at := path.Child("ports").Index(i)
		if p.ContainerPort < 1 || p.ContainerPort > 65535 {
			errs = append(errs, field.Invalid(at.Child("containerPort"), p.ContainerPort, "must be between 1 and 65535, inclusive"))
		}
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
	}
	for i, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			errs = append(errs, field.NotFound(path.Child("volumeMounts").Index(i).Child("name"), m.Name))
		}
	}
	for i, e := range c.Env {
		if e.Name == "" {
			errs = append(errs, field.Required(path.Child("env").Index(i).Child("name"), ""))
		}
	}
	return append(errs, validateResources(&c.Resources, path.Child("resources"))...)
}

func validateProtocol(p corev1.Protocol, path *field.Path) field.ErrorList {
	switch p {
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		return nil
	}
	return field.ErrorList{field.NotSupported(path, p, []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP})}
}

func validateResources(r *corev1.ResourceRequirements, path *field.Path) (errs field.ErrorList) {
	for name, q := range r.Limits {
		if q.Sign() < 0 {
			errs = append(errs, field.Invalid(path.Child("limits").Key(string(name)), q.String(), "must be greater than or equal to 0"))
		}
	}
	for name, q := range r.Requests {
		at := path.Child("requests").Key(string(name))
		if q.Sign() < 0 {
			errs = append(errs, field.Invalid(at, q.String(), "must be greater than or equal to 0"))
		}
		if limit, ok := r.Limits[name]; ok && q.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(at, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	return errs
}

// validatePodUpdate: of a pod's spec, few fields can change.
func validatePodUpdate(old, p *corev1.Pod, path *field.Path) (errs field.ErrorList) {
	if len(old.Spec.Containers) != len(p.Spec.Containers) || len(old.Spec.InitContainers) != len(p.Spec.InitContainers) {
		return append(errs, field.Forbidden(path.Child("containers"), "pod updates may not add or remove containers"))
	}
	may := p.Spec.DeepCopy()
	for i := range may.Containers {
		if strings.TrimSpace(may.Containers[i].Image) == "" {
			errs = append(errs, field.Required(path.Child("containers").Index(i).Child("image"), ""))
		}
		may.Containers[i].Image = old.Spec.Containers[i].Image
		may.Containers[i].Resources = old.Spec.Containers[i].Resources
	}
	for i := range may.InitContainers {
		may.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	may.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	may.TerminationGracePeriodSeconds = old.Spec.TerminationGracePeriodSeconds
	may.Tolerations = old.Spec.Tolerations
	may.SchedulingGates = old.Spec.SchedulingGates
	may.EphemeralContainers = old.Spec.EphemeralContainers
	if old.Spec.NodeName == "" {
		may.NodeName = ""
	}
	if len(old.Spec.SchedulingGates) > 0 {
		may.NodeSelector, may.Affinity = old.Spec.NodeSelector, old.Spec.Affinity
	}
	if !equality.Semantic.DeepEqual(&old.Spec, may) {
		errs = append(errs, field.Forbidden(path, "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"+
			"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`"))
	}
	return errs
}

func podReady(p *corev1.Pod) string {
	ready := 0
	for _, c := range p.Status.ContainerStatuses {
		if c.Ready && c.State.Running != nil {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, len(p.Spec.Containers))
}

// podStatus says in a word how the pod is: the first thing that is wrong.
func podStatus(p *corev1.Pod) string {
	text := string(p.Status.Phase)
	if p.Status.Reason != "" {
		text = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			text = corev1.PodReasonSchedulingGated
		}
	}
	initializing := false
	for i, c := range p.Status.InitContainerStatuses {
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
			continue
		case c.State.Terminated != nil:
			text = "Init:" + or(c.State.Terminated.Reason, fmt.Sprintf("ExitCode:%d", c.State.Terminated.ExitCode))
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			text = "Init:" + c.State.Waiting.Reason
		default:
			text = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		initializing = true
		break
	}
	if !initializing {
		running := false
		for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
			c := &p.Status.ContainerStatuses[i]
			switch {
			case c.State.Waiting != nil && c.State.Waiting.Reason != "":
				text = c.State.Waiting.Reason
			case c.State.Terminated != nil && c.State.Terminated.Reason != "":
				text = c.State.Terminated.Reason
			case c.State.Terminated != nil && c.State.Terminated.Signal != 0:
				text = fmt.Sprintf("Signal:%d", c.State.Terminated.Signal)
			case c.State.Terminated != nil:
				text = fmt.Sprintf("ExitCode:%d", c.State.Terminated.ExitCode)
			case c.Ready && c.State.Running != nil:
				running = true
			}
		}
		if text == "Completed" && running {
			text = "Running"
		}
	}
	if p.DeletionTimestamp != nil {
		if p.Status.Reason == "NodeLost" {
			return "Unknown"
		}
		return "Terminating"
	}
	return text
}

func podRestarts(p *corev1.Pod) string {
	n := int32(0)
	var last time.Time
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
		if t := c.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	if n > 0 && !last.IsZero() {
		return fmt.Sprintf("%d (%s ago)", n, apiserver.Since(last))
	}
	return fmt.Sprint(n)
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	n := 0
	for _, g := range p.Spec.ReadinessGates {
		for _, c := range p.Status.Conditions {
			if c.Type == g.ConditionType && c.Status == corev1.ConditionTrue {
				n++
			}
		}
	}
	return fmt.Sprintf("%d/%d", n, len(p.Spec.ReadinessGates))
}
