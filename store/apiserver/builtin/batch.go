// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
)

// Jobs get their selector from their controller, which knows their UID.
func Jobs() apiserver.Resource[*batchv1.Job] {
	k := kind[*batchv1.Job](batchv1.GroupName, "v1", "Job")
	k.Indexes = []*store.Index[*batchv1.Job]{
		store.NewIndex("status.successful", func(j *batchv1.Job) string { return fmt.Sprint(j.Status.Succeeded) }),
	}
	k.Default = func(j *batchv1.Job) { defaultJob(&j.Spec) }
	k.Validate = func(_, j *batchv1.Job) error { return result(validateJob(&j.Spec, field.NewPath("spec"))) }
	return apiserver.Resource[*batchv1.Job]{
		Kind: k, Categories: []string{"all"},
		Columns: columns([]apiserver.Column[*batchv1.Job]{
			column("Status", jobStatus),
			column("Completions", completions),
			column("Duration", jobDuration),
			apiserver.Age[*batchv1.Job](),
		}, workload(func(j *batchv1.Job) *corev1.PodTemplateSpec { return &j.Spec.Template },
			func(j *batchv1.Job) *metav1.LabelSelector { return j.Spec.Selector })),
	}
}

func defaultJob(s *batchv1.JobSpec) {
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = new(int32(1))
	}
	setPointer(&s.Parallelism, 1)
	setPointer(&s.BackoffLimit, 6)
	setPointer(&s.CompletionMode, batchv1.NonIndexedCompletion)
	setPointer(&s.Suspend, false)
	defaultPodSpec(&s.Template.Spec)
}

func validateJob(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := notNegative(s.Parallelism, path.Child("parallelism"))
	errs = append(errs, notNegative(s.Completions, path.Child("completions"))...)
	errs = append(errs, notNegative(s.BackoffLimit, path.Child("backoffLimit"))...)
	errs = append(errs, validatePodSpec(&s.Template.Spec, path.Child("template", "spec"))...)
	if s.Template.Spec.RestartPolicy == corev1.RestartPolicyAlways {
		errs = append(errs, field.Required(path.Child("template", "spec", "restartPolicy"), `valid values: "OnFailure", "Never"`))
	}
	return errs
}

func jobStatus(j *batchv1.Job) any {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			switch c.Type {
			case batchv1.JobComplete, batchv1.JobFailed, batchv1.JobSuspended:
				return string(c.Type)
			}
		}
	}
	if j.DeletionTimestamp != nil {
		return "Terminating"
	}
	return "Running"
}

func completions(j *batchv1.Job) any {
	switch {
	case j.Spec.Completions != nil:
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case deref(j.Spec.Parallelism) > 1:
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job) any {
	switch {
	case j.Status.StartTime == nil:
		return ""
	case j.Status.CompletionTime == nil:
		return duration.HumanDuration(time.Since(j.Status.StartTime.Time))
	}
	return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
}

// CronJobs returns the kind CronJob of batch/v1, to be registered, with its
// defaults and validation.
func CronJobs() apiserver.Resource[*batchv1.CronJob] {
	k := kind[*batchv1.CronJob](batchv1.GroupName, "v1", "CronJob")
	k.Default = func(c *batchv1.CronJob) {
		setDefault(&c.Spec.ConcurrencyPolicy, batchv1.AllowConcurrent)
		setPointer(&c.Spec.Suspend, false)
		setPointer(&c.Spec.SuccessfulJobsHistoryLimit, 3)
		setPointer(&c.Spec.FailedJobsHistoryLimit, 1)
		defaultJob(&c.Spec.JobTemplate.Spec)
	}
	k.Validate = func(_, c *batchv1.CronJob) error {
		path := field.NewPath("spec")
		errs := validateJob(&c.Spec.JobTemplate.Spec, path.Child("jobTemplate", "spec"))
		if c.Spec.Schedule == "" {
			errs = append(errs, field.Required(path.Child("schedule"), ""))
		}
		return result(errs)
	}
	return apiserver.Resource[*batchv1.CronJob]{
		Kind: k, ShortNames: []string{"cj"}, Categories: []string{"all"},
		Columns: columns([]apiserver.Column[*batchv1.CronJob]{
			column("Schedule", func(c *batchv1.CronJob) any { return c.Spec.Schedule }),
			column("Timezone", func(c *batchv1.CronJob) any {
				if c.Spec.TimeZone == nil {
					return "<none>"
				}
				return *c.Spec.TimeZone
			}),
			{Name: "Suspend", Type: "boolean", Value: func(c *batchv1.CronJob) any { return fmt.Sprintf("%t", c.Spec.Suspend != nil && *c.Spec.Suspend) }},
			number("Active", func(c *batchv1.CronJob) any { return int64(len(c.Status.Active)) }),
			column("Last Schedule", func(c *batchv1.CronJob) any {
				if c.Status.LastScheduleTime == nil {
					return "<none>"
				}
				return apiserver.Since(c.Status.LastScheduleTime.Time)
			}),
			apiserver.Age[*batchv1.CronJob](),
		}, workload(func(c *batchv1.CronJob) *corev1.PodTemplateSpec { return &c.Spec.JobTemplate.Spec.Template },
			func(c *batchv1.CronJob) *metav1.LabelSelector { return c.Spec.JobTemplate.Spec.Selector })),
	}
}

// HorizontalPodAutoscalers returns the kind HorizontalPodAutoscaler of
// autoscaling/v2, to be registered, with its defaults and validation.
func HorizontalPodAutoscalers() apiserver.Resource[*autoscalingv2.HorizontalPodAutoscaler] {
	type hpa = *autoscalingv2.HorizontalPodAutoscaler
	k := kind[hpa](autoscalingv2.GroupName, "v2", "HorizontalPodAutoscaler")
	k.Default = func(h hpa) { setPointer(&h.Spec.MinReplicas, 1) }
	k.Validate = func(_, h hpa) error {
		path := field.NewPath("spec")
		var errs field.ErrorList
		if h.Spec.MaxReplicas < 1 {
			errs = append(errs, field.Invalid(path.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than 0"))
		} else if h.Spec.MaxReplicas < deref(h.Spec.MinReplicas) {
			errs = append(errs, field.Invalid(path.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
		}
		if h.Spec.ScaleTargetRef.Name == "" {
			errs = append(errs, field.Required(path.Child("scaleTargetRef", "name"), ""))
		}
		return result(errs)
	}
	return apiserver.Resource[hpa]{
		Kind: k, ShortNames: []string{"hpa"}, Categories: []string{"all"},
		Columns: []apiserver.Column[hpa]{
			column("Reference", func(h hpa) any { return h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name }),
			column("Targets", targets),
			column("MinPods", func(h hpa) any { return fmt.Sprint(deref(h.Spec.MinReplicas)) }),
			number("MaxPods", func(h hpa) any { return int64(h.Spec.MaxReplicas) }),
			number("Replicas", func(h hpa) any { return int64(h.Status.CurrentReplicas) }),
			apiserver.Age[hpa](),
		},
	}
}

func targets(h *autoscalingv2.HorizontalPodAutoscaler) any {
	return or(join(h.Spec.Metrics, func(m autoscalingv2.MetricSpec) string {
		if m.Resource == nil || m.Resource.Target.AverageUtilization == nil {
			return string(m.Type)
		}
		current := "<unknown>"
		for _, s := range h.Status.CurrentMetrics {
			if s.Resource != nil && s.Resource.Name == m.Resource.Name && s.Resource.Current.AverageUtilization != nil {
				current = fmt.Sprintf("%d%%", *s.Resource.Current.AverageUtilization)
			}
		}
		return fmt.Sprintf("%s: %s/%d%%", m.Resource.Name, current, *m.Resource.Target.AverageUtilization)
	}), "<none>")
}

// PodDisruptionBudgets returns the kind PodDisruptionBudget of policy/v1, to be
// registered, with its validation.
func PodDisruptionBudgets() apiserver.Resource[*policyv1.PodDisruptionBudget] {
	type pdb = *policyv1.PodDisruptionBudget
	k := kind[pdb](policyv1.GroupName, "v1", "PodDisruptionBudget")
	k.Validate = func(_, p pdb) error {
		if p.Spec.MinAvailable != nil && p.Spec.MaxUnavailable != nil {
			return field.Invalid(field.NewPath("spec"), p.Spec, "minAvailable and maxUnavailable cannot be both set")
		}
		return nil
	}
	return apiserver.Resource[pdb]{
		Kind: k, ShortNames: []string{"pdb"},
		Columns: []apiserver.Column[pdb]{
			column("Min Available", func(p pdb) any {
				if p.Spec.MinAvailable == nil {
					return "N/A"
				}
				return p.Spec.MinAvailable.String()
			}),
			column("Max Unavailable", func(p pdb) any {
				if p.Spec.MaxUnavailable == nil {
					return "N/A"
				}
				return p.Spec.MaxUnavailable.String()
			}),
			number("Allowed Disruptions", func(p pdb) any { return int64(p.Status.DisruptionsAllowed) }),
			apiserver.Age[pdb](),
		},
	}
}
