// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"path"
	"reflect"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

// mergeRules says how the list or map in a field is merged: by strategic merge
// patches, as the tags patchStrategy and patchMergeKey have it, and by
// server-side apply, as listType and listMapKey have it or else the former two.
func mergeRules(s *spec.Schema, t reflect.Type, f reflect.StructField, name string) {
	strategy, key := f.Tag.Get("patchStrategy"), f.Tag.Get("patchMergeKey")
	if strategy != "" {
		s.AddExtension("x-kubernetes-patch-strategy", strategy)
	}
	if key != "" {
		s.AddExtension("x-kubernetes-patch-merge-key", key)
	}
	if isKubernetes(t) {
		if value, ok := defaults[path.Base(t.PkgPath())+"."+t.Name()+"."+name]; ok {
			s.Default = value
		}
	}
	inner := f.Type
	for inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	if inner.Kind() != reflect.Slice || inner.Elem().Kind() == reflect.Uint8 {
		return
	}
	listType, keys := listRule(t, f, name, strategy, key, inner.Elem())
	if listType == "" {
		return
	}
	s.AddExtension("x-kubernetes-list-type", listType)
	if len(keys) > 0 {
		s.AddExtension("x-kubernetes-list-map-keys", keys)
	}
}

func listRule(t reflect.Type, f reflect.StructField, name, strategy, key string, elem reflect.Type) (string, []any) {
	if isKubernetes(t) {
		if rule, ok := listTypes[path.Base(t.PkgPath())+"."+t.Name()+"."+name]; ok {
			listType, keys, _ := strings.Cut(rule, " ")
			return listType, words(keys)
		}
	}
	if listType := f.Tag.Get("listType"); listType != "" {
		keys := words(strings.ReplaceAll(f.Tag.Get("listMapKey"), ",", " "))
		if len(keys) == 0 && key != "" {
			keys = []any{key}
		}
		if listType == "map" && len(keys) == 0 {
			return "atomic", nil // there is nothing to tell the elements apart by
		}
		return listType, keys
	}
	switch {
	case !strings.Contains(strategy, "merge"):
		return "atomic", nil
	case key != "":
		return "map", []any{key}
	case elem.Kind() != reflect.Struct:
		return "set", nil
	}
	return "atomic", nil
}

func words(text string) []any {
	var out []any
	for w := range strings.FieldsSeq(text) {
		out = append(out, w)
	}
	return out
}

// listTypes are the lists of Kubernetes' types whose rule for server-side apply
// is not what their tags for strategic merge patches say.
// Source: the +listType and +listMapKey markers of k8s.io/api, v0.36.
var listTypes = map[string]string{
	"v1.Container.ports":                         "map containerPort protocol",
	"v1.EphemeralContainerCommon.ports":          "map containerPort protocol",
	"v1.ServiceSpec.ports":                       "map port protocol",
	"v1.PodSpec.topologySpreadConstraints":       "map topologyKey whenUnsatisfiable",
	"v1.PodSpec.schedulingGates":                 "map name",
	"v1.Secret.ownerReferences":                  "map uid",
	"v1.ServiceAccount.secrets":                  "map name",
	"v1.NodeStatus.addresses":                    "map type", // of several addresses of one type, the last counts
	"v1.EndpointSubset.addresses":                "atomic",
	"v1.PodStatus.containerStatuses":             "atomic",
	"v1.PodStatus.initContainerStatuses":         "atomic",
	"v1.PodStatus.ephemeralContainerStatuses":    "atomic",
	"v1.PersistentVolumeSpec.accessModes":        "atomic",
	"v1.HTTPIngressRuleValue.paths":              "atomic",
	"v1.IngressSpec.rules":                       "atomic",
	"v1.EndpointSlice.endpoints":                 "atomic",
	"v1.EndpointSlice.ports":                     "atomic",
	"v1.ValidatingWebhookConfiguration.webhooks": "map name",
	"v1.MutatingWebhookConfiguration.webhooks":   "map name",
}

// defaults are those of the keys of lists, without which two entries could not
// be told apart.
var defaults = map[string]any{
	"v1.ContainerPort.protocol": "TCP",
	"v1.ServicePort.protocol":   "TCP",
}

// atomicStructs are Kubernetes' types that server-side apply owns as a whole.
// Source: the +structType=atomic and +mapType=atomic markers, v0.36.
var atomicStructs = map[string]bool{
	"v1.LabelSelector":               true,
	"v1.NodeSelector":                true,
	"v1.NodeSelectorTerm":            true,
	"v1.TopologySelectorTerm":        true,
	"v1.ObjectReference":             true,
	"v1.LocalObjectReference":        true,
	"v1.TypedLocalObjectReference":   true,
	"v1.SecretReference":             true,
	"v1.ConfigMapKeySelector":        true,
	"v1.SecretKeySelector":           true,
	"v1.ObjectFieldSelector":         true,
	"v1.ResourceFieldSelector":       true,
	"v1.ScopeSelector":               true,
	"v1.FileKeySelector":             true,
	"v1.OwnerReference":              true,
	"v1.RoleRef":                     true,
	"v1.Subject":                     true,
	"v2.CrossVersionObjectReference": true,
}
