// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/slipway-dev/slipway/runtime"
)

// Validate says everything that is wrong with a pod, and what would be right. The
// error wraps runtime.ErrInvalid.
func Validate(p *Pod) error {
	v := validator{pod: p}
	v.check()
	if len(v.errs) == 0 {
		return nil
	}
	return fmt.Errorf("pod %s/%s: %w: %w", p.namespace(), p.Name, runtime.ErrInvalid, errors.Join(v.errs...))
}

type validator struct {
	pod   *Pod
	errs  []error
	names map[string]bool
}

func (v *validator) say(field, format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
}

func (v *validator) check() {
	s := &v.pod.Spec
	v.names = map[string]bool{}
	if bad := badName(v.pod.Name, 253, true); bad != "" {
		v.say("name", "%s", bad)
	}
	if v.pod.UID == "" || strings.ContainsAny(v.pod.UID, "/\x00") || strings.HasPrefix(v.pod.UID, ".") {
		v.say("uid", "%q: want a unique name without slashes", v.pod.UID)
	}
	if v.pod.Namespace != "" {
		if bad := badName(v.pod.Namespace, 63, false); bad != "" {
			v.say("namespace", "%s", bad)
		}
	}
	switch s.RestartPolicy {
	case "", RestartAlways, RestartOnFailure, RestartNever:
	default:
		v.say("restartPolicy", "%q: want Always, OnFailure or Never", s.RestartPolicy)
	}
	if s.TerminationGracePeriod != nil && *s.TerminationGracePeriod < 0 {
		v.say("terminationGracePeriod", "%v: want zero or more", *s.TerminationGracePeriod)
	}
	if len(s.Containers) == 0 {
		v.say("containers", "want at least one")
	}
	volumes := v.volumes()
	v.containers("initContainers", s.InitContainers, volumes)
	v.containers("containers", s.Containers, volumes)
	v.containers("ephemeralContainers", s.EphemeralContainers, volumes)
	for i, c := range s.InitContainers {
		if c.RestartPolicy != "" && c.RestartPolicy != RestartAlways {
			v.say(fmt.Sprintf("initContainers[%d].restartPolicy", i), "%q: want Always, for a sidecar, or nothing", c.RestartPolicy)
		}
		if c.RestartPolicy == "" && (c.LivenessProbe != nil || c.ReadinessProbe != nil || c.StartupProbe != nil || c.PostStart != nil || c.PreStop != nil) {
			v.say(fmt.Sprintf("initContainers[%d]", i), "probes and hooks need restartPolicy Always")
		}
	}
}

func (v *validator) volumes() map[string]bool {
	known := map[string]bool{}
	for i, vol := range v.pod.Spec.Volumes {
		field := fmt.Sprintf("volumes[%d]", i)
		if bad := badName(vol.Name, 63, false); bad != "" {
			v.say(field+".name", "%s", bad)
		}
		if known[vol.Name] {
			v.say(field+".name", "%q is there twice", vol.Name)
		}
		known[vol.Name] = true
		if n := count(vol.EmptyDir != nil, vol.HostPath != nil, vol.Projected != nil, vol.CSI != nil); n != 1 {
			v.say(field, "has %d sources: want exactly one of EmptyDir, HostPath, Projected and CSI", n)
		}
		if e := vol.EmptyDir; e != nil {
			if e.Medium != "" && e.Medium != MediumMemory {
				v.say(field+".emptyDir.medium", "%q: want Memory, or nothing", e.Medium)
			}
			if e.SizeLimit < 0 {
				v.say(field+".emptyDir.sizeLimit", "%d: want zero or more", e.SizeLimit)
			}
		}
		if vol.HostPath != nil && !path.IsAbs(vol.HostPath.Path) {
			v.say(field+".hostPath", "%q: want an absolute path", vol.HostPath.Path)
		}
	}
	return known
}

// element is an element of a list. Its name is only made when something is wrong with it.
type element struct {
	list string
	i    int
}

func (e element) sub(field string) string { return fmt.Sprintf("%s[%d]%s", e.list, e.i, field) }

func (v *validator) containers(list string, containers []Container, volumes map[string]bool) {
	for i := range containers {
		c := &containers[i]
		field := element{list, i}
		if bad := badName(c.Name, 63, false); bad != "" {
			v.say(field.sub(".name"), "%s", bad)
		}
		if v.names[c.Name] {
			v.say(field.sub(".name"), "%q is there twice", c.Name)
		}
		v.names[c.Name] = true
		for j, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				v.say(element{field.sub(".volumeMounts"), j}.sub(""), "the pod has no volume %q", m.Name)
			}
			if !path.IsAbs(m.MountPath) {
				v.say(element{field.sub(".volumeMounts"), j}.sub(""), "mount path %q: want an absolute path", m.MountPath)
			}
		}
		v.handlers(field, c)
		r := c.Resources.withDefaults()
		for _, a := range [...]struct {
			name           string
			request, limit int64
		}{{"cpu", r.Requests.CPU, r.Limits.CPU}, {"memory", r.Requests.Memory, r.Limits.Memory}, {"ephemeral-storage", r.Requests.EphemeralStorage, r.Limits.EphemeralStorage}} {
			if a.request < 0 || a.limit < 0 || a.limit > 0 && a.request > a.limit {
				v.say(field.sub(".resources"), "%s: request %d, limit %d: want 0 <= request <= limit", a.name, a.request, a.limit)
			}
		}
		switch c.ImagePullPolicy {
		case "", PullAlways, PullIfNotPresent, PullNever:
		default:
			v.say(field.sub(".imagePullPolicy"), "%q: want Always, IfNotPresent or Never", c.ImagePullPolicy)
		}
	}
}

func (v *validator) handlers(field element, c *Container) {
	check := func(name string, h *Handler, hook bool) {
		n := count(h.Exec != nil, h.HTTPGet != nil, h.TCPSocket != nil, h.GRPC != nil, h.Sleep > 0)
		if n != 1 || h.Sleep > 0 && !hook || h.GRPC != nil && hook {
			v.say(field.sub("."+name), "want exactly one of Exec, HTTPGet, TCPSocket and, for probes, GRPC or, for hooks, Sleep")
		}
	}
	for _, named := range [...]struct {
		name  string
		probe *Probe
	}{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}} {
		if p := named.probe; p != nil {
			check(named.name, &p.Handler, false)
			if p.Period < 0 || p.Timeout < 0 || p.InitialDelay < 0 || p.SuccessThreshold < 0 || p.FailureThreshold < 0 {
				v.say(field.sub("."+named.name), "times and thresholds must not be negative")
			}
		}
	}
	if c.PostStart != nil {
		check("postStart", c.PostStart, true)
	}
	if c.PreStop != nil {
		check("preStop", c.PreStop, true)
	}
}

func count(all ...bool) int {
	n := 0
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

// badName says what is wrong with a DNS label, or with dots a subdomain. These
// names become parts of paths.
func badName(s string, limit int, dots bool) string {
	ok := s != "" && len(s) <= limit
	for i := 0; ok && i < len(s); i++ {
		b := s[i]
		letter := 'a' <= b && b <= 'z' || '0' <= b && b <= '9'
		inner := (b == '-' || dots && b == '.') && i > 0 && i < len(s)-1
		ok = letter || inner
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("%q: want 1 to %d lower-case letters, digits and '-', beginning and ending with a letter or digit", s, limit)
}
