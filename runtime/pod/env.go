// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// References finds what pods refer to. What does not exist is an error that wraps
// runtime.ErrNotFound. Calls may come from several goroutines.
type References interface {
	ConfigMap(ctx context.Context, namespace, name string) (map[string][]byte, error)
	Secret(ctx context.Context, namespace, name string) (map[string][]byte, error)
	// Token returns a token of the pod's service account.
	Token(ctx context.Context, p *Pod, audience string, expiration time.Duration) (string, error)
}

// object is a configMap or a secret.
func (w *worker) object(ctx context.Context, kind, namespace, name string) (map[string][]byte, error) {
	r := w.m.config.References
	err := runtime.ErrNotFound
	var keys map[string][]byte
	if r != nil {
		if kind == "secret" {
			keys, err = r.Secret(ctx, namespace, name)
		} else {
			keys, err = r.ConfigMap(ctx, namespace, name)
		}
	}
	if errors.Is(err, runtime.ErrNotFound) {
		return nil, fmt.Errorf("%s %q %w", kind, name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", kind, name, err)
	}
	return keys, nil
}

// environment resolves a container's variables, in order.
func (w *worker) environment(ctx context.Context, p *Pod, c *Container) ([]runtime.EnvVar, error) {
	if len(c.EnvFrom)+len(c.Env) == 0 {
		return nil, nil
	}
	var env []runtime.EnvVar
	for _, from := range c.EnvFrom {
		kind, name := "configmap", from.ConfigMap
		if from.Secret != "" {
			kind, name = "secret", from.Secret
		}
		keys, err := w.object(ctx, kind, p.namespace(), name)
		if err != nil {
			if from.Optional && errors.Is(err, runtime.ErrNotFound) {
				continue
			}
			return nil, err
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			env = append(env, runtime.EnvVar{Name: from.Prefix + key, Value: string(keys[key])})
		}
	}
	for _, e := range c.Env {
		value, ok, err := w.variable(ctx, p, c, e, env)
		if err != nil {
			return nil, err
		}
		if ok {
			env = append(env, runtime.EnvVar{Name: e.Name, Value: value})
		}
	}
	return env, nil
}

// variable is the value of one variable; false if its optional source is missing.
func (w *worker) variable(ctx context.Context, p *Pod, c *Container, e EnvVar, env []runtime.EnvVar) (string, bool, error) {
	key := func(kind string, ref *KeyRef) (string, bool, error) {
		keys, err := w.object(ctx, kind, p.namespace(), ref.Name)
		if err != nil {
			if ref.Optional && errors.Is(err, runtime.ErrNotFound) {
				return "", false, nil
			}
			return "", false, err
		}
		value, ok := keys[ref.Key]
		if !ok && !ref.Optional {
			return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", ref.Key, kind, p.namespace(), ref.Name)
		}
		return string(value), ok, nil
	}
	switch {
	case e.ConfigMapKeyRef != nil:
		return key("configmap", e.ConfigMapKeyRef)
	case e.SecretKeyRef != nil:
		return key("secret", e.SecretKeyRef)
	case e.FieldRef != "":
		value, err := w.field(p, e.FieldRef)
		return value, err == nil, err
	case e.ResourceRef != nil:
		value, err := resourceField(p, c, e.ResourceRef)
		return value, err == nil, err
	}
	return expand(e.Value, env), true, nil
}

// field is a field of the pod, by its path (the downward API).
func (w *worker) field(p *Pod, path string) (string, error) {
	if name, rest, ok := strings.Cut(path, "['"); ok && strings.HasSuffix(rest, "']") {
		key := strings.TrimSuffix(rest, "']")
		switch name {
		case "metadata.labels":
			return p.Labels[key], nil
		case "metadata.annotations":
			return p.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.namespace(), nil
	case "metadata.uid":
		return p.UID, nil
	case "metadata.labels":
		return lines(p.Labels), nil
	case "metadata.annotations":
		return lines(p.Annotations), nil
	case "spec.nodeName":
		return p.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return w.m.config.HostIP, nil
	case "status.podIP", "status.podIPs":
		ips := w.sandbox.ips
		if len(ips) == 0 && p.Spec.HostNetwork {
			ips = []string{w.m.config.HostIP}
		}
		if path == "status.podIP" && len(ips) > 1 {
			ips = ips[:1]
		}
		return strings.Join(ips, ","), nil
	}
	return "", fmt.Errorf("field %q: want metadata.name, metadata.namespace, metadata.uid, metadata.labels['key'], metadata.annotations['key'], "+
		"spec.nodeName, spec.serviceAccountName, status.hostIP, status.podIP or status.podIPs", path)
}

// lines is a map as the downward API writes it into a file.
func lines(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s=%q\n", k, m[k])
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func resourceField(p *Pod, c *Container, ref *ResourceRef) (string, error) {
	if ref.Container != "" && ref.Container != c.Name {
		all := slices.Concat(p.Spec.InitContainers, p.Spec.Containers)
		i := slices.IndexFunc(all, func(o Container) bool { return o.Name == ref.Container })
		if i < 0 {
			return "", fmt.Errorf("resource %s: the pod has no container %q", ref.Resource, ref.Container)
		}
		c = &all[i]
	}
	list, name, _ := strings.Cut(ref.Resource, ".")
	amounts := c.Resources.Limits
	if list == "requests" {
		amounts = c.Resources.withDefaults().Requests
	} else if list != "limits" {
		name = ""
	}
	value, divisor := int64(0), int64(1)
	switch name {
	case "cpu":
		value, divisor = amounts.CPU, 1000
	case "memory":
		value = amounts.Memory
	case "ephemeral-storage":
		value = amounts.EphemeralStorage
	default:
		return "", fmt.Errorf("resource %q: want limits or requests, and .cpu, .memory or .ephemeral-storage", ref.Resource)
	}
	if ref.Divisor > 0 {
		divisor = ref.Divisor
	}
	return strconv.FormatInt((value+divisor-1)/divisor, 10), nil
}

// expand replaces $(NAME) by the variable's value, and $$ by a dollar sign. An
// unknown name stays as it is.
func expand(s string, env []runtime.EnvVar) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			break
		}
		b.WriteString(s[:i])
		s = s[i:]
		end := strings.IndexByte(s, ')')
		switch {
		case s[1] == '$':
			b.WriteByte('$')
			s = s[2:]
		case s[1] == '(' && end > 0:
			value, ok := lookup(env, s[2:end])
			if !ok {
				value = s[:end+1]
			}
			b.WriteString(value)
			s = s[end+1:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
	return b.String() + s
}

func lookup(env []runtime.EnvVar, name string) (string, bool) {
	for _, e := range slices.Backward(env) {
		if e.Name == name {
			return e.Value, true
		}
	}
	return "", false
}

func expandAll(list []string, env []runtime.EnvVar) []string {
	if !slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "$") }) {
		return list
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = expand(s, env)
	}
	return out
}
