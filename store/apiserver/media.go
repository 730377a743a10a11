// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// format is how an object is written.
type format uint8

const (
	formatJSON format = iota
	formatYAML
	formatProtobuf
)

const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"

	typeJSONPatch      = "application/json-patch+json"
	typeMergePatch     = "application/merge-patch+json"
	typeStrategicPatch = "application/strategic-merge-patch+json"
	typeApplyPatch     = "application/apply-patch+yaml"
)

var mediaTypes = []string{typeJSON, typeYAML, typeProtobuf}

func (f format) String() string { return mediaTypes[f] }

// media is what a client accepts as the answer: the format, and another shape
// than the object's own, if it asks for one.
type media struct {
	format  format
	as      string // "", Table, PartialObjectMetadata, PartialObjectMetadataList
	version string // of the shape: v1 or v1beta1
}

// shapes are what objects can be shown as, beside themselves.
var shapes = []string{"Table", "PartialObjectMetadata", "PartialObjectMetadataList"}

// accepted returns the first of what the client accepts that can be given.
// protobuf says whether that format is among it.
func accepted(r *http.Request, protobuf bool) (media, error) {
	header := strings.Join(r.Header.Values("Accept"), ",")
	if header == "" || header == typeJSON || header == "*/*" {
		return media{}, nil
	}
	best, found, quality := media{}, false, 0.0
	for clause := range strings.SplitSeq(header, ",") {
		m, q, ok := parseAccept(clause, protobuf)
		if ok && q > quality { // the first of the best
			best, found, quality = m, true, q
		}
	}
	if !found {
		return media{}, notAcceptable(header)
	}
	return best, nil
}

func parseAccept(clause string, protobuf bool) (m media, quality float64, ok bool) {
	name, params, err := mime.ParseMediaType(clause)
	if err != nil {
		return m, 0, false
	}
	quality = 1
	if q := params["q"]; q != "" {
		if quality, err = strconv.ParseFloat(q, 64); err != nil {
			return m, 0, false
		}
	}
	switch name {
	case typeJSON, "*/*", "application/*":
		m.format = formatJSON
	case typeYAML:
		m.format = formatYAML
	case typeProtobuf:
		if !protobuf {
			return m, 0, false
		}
		m.format = formatProtobuf
	default:
		return m, 0, false
	}
	if as := params["as"]; as != "" {
		if params["g"] != "meta.k8s.io" || params["v"] != "v1" && params["v"] != "v1beta1" || !slices.Contains(shapes, as) {
			return m, 0, false
		}
		m.as, m.version = as, params["v"]
	}
	return m, quality, true
}

// contentType returns the media type of the request's body, JSON where it says
// none.
func contentType(r *http.Request) string {
	header := r.Header.Get("Content-Type")
	if header == "" || header == typeJSON {
		return typeJSON
	}
	name, _, err := mime.ParseMediaType(header)
	if err != nil {
		return header
	}
	return name
}

// acceptsGzip reports whether the answer may be compressed.
func acceptsGzip(r *http.Request) bool {
	for clause := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(clause), ";")
		if name == "gzip" && strings.ReplaceAll(params, " ", "") != "q=0" {
			return true
		}
	}
	return false
}
