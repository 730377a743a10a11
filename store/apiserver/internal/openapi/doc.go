// SPDX-License-Identifier: Apache-2.0

// Package openapi describes Go types as OpenAPI schemas, by reflection, and the
// paths under which an API server serves them.
//
//	d := openapi.New()
//	name := d.Kind(reflect.TypeFor[corev1.Pod](), podKind, "")
//	schemas := d.Schemas() // by name, in the form of OpenAPI v3
//
// Descriptions come from a type's SwaggerDoc method, which Kubernetes generates,
// or from the field tag "description". How lists merge comes from the tags
// patchStrategy and patchMergeKey, or listType and listMapKey; what Kubernetes'
// own types say in comments only, which are lost to a program, is in merge.go.
package openapi
