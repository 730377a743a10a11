// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

type (
	gvk           = schema.GroupVersionKind
	hasObjectKind interface{ GetObjectKind() schema.ObjectKind }
)

// readBody reads the whole body, up to the server's limit.
func (s *Server) readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	limit := s.limits.Body
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, apierrors.NewBadRequest("reading the body: " + err.Error())
	}
	if n > limit {
		return nil, tooLarge(limit)
	}
	return b.Bytes(), nil
}

func tooLarge(limit int64) error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
}

// fieldValidation says what becomes of fields that the type does not have.
type fieldValidation uint8

const (
	validateWarn fieldValidation = iota
	validateIgnore
	validateStrict
)

func parseFieldValidation(text string) (fieldValidation, error) {
	switch text {
	case "", metav1.FieldValidationWarn:
		return validateWarn, nil
	case metav1.FieldValidationIgnore:
		return validateIgnore, nil
	case metav1.FieldValidationStrict:
		return validateStrict, nil
	}
	return 0, apierrors.NewBadRequest(fmt.Sprintf("fieldValidation: Unsupported value: %q: supported values: \"Ignore\", \"Strict\", \"Warn\"", text))
}

// decoder reads request bodies.
type decoder struct {
	kind       gvk // that is expected
	validation fieldValidation
	depth      int // of nesting
	warn       func(string)
	anyGroup   bool // the kind may be of any group and version
}

// decode reads a body into a new value of the expected kind.
func (d *decoder) decode(contentType string, data []byte, into any) error {
	switch contentType {
	case typeJSON:
		return d.json(data, into)
	case typeYAML, "application/x-yaml", "text/yaml":
		converted, err := d.yaml(data)
		if err != nil {
			return err
		}
		return d.json(converted, into)
	case typeProtobuf:
		return d.protobuf(data, into)
	}
	return unsupportedMediaType(contentType, mediaTypes...)
}

// yaml converts to JSON. A key that is there twice is an error or a warning, as
// the field validation says.
func (d *decoder) yaml(data []byte) ([]byte, error) {
	if d.validation != validateIgnore {
		out, err := yaml.YAMLToJSONStrict(data)
		if err == nil {
			return out, nil
		}
		if d.validation == validateStrict {
			return nil, d.unusable(err)
		}
		if again, lax := yaml.YAMLToJSON(data); lax == nil {
			d.warn(err.Error())
			return again, nil
		}
	}
	out, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, d.unusable(err)
	}
	return out, nil
}

func (d *decoder) json(data []byte, into any) error {
	if err := checkDepth(data, d.depth); err != nil {
		return d.unusable(err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return apierrors.NewBadRequest("the body is empty: want an object of kind " + d.kind.Kind)
	}
	var strict []error
	var err error
	if d.validation == validateIgnore {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, into)
	} else {
		strict, err = kjson.UnmarshalStrict(data, into)
	}
	if err != nil {
		return d.unusable(err)
	}
	if err := d.checkKind(data, into); err != nil {
		return err
	}
	return d.report(strict, into)
}

// unusable says that the body can't be read as what it should be.
func (d *decoder) unusable(err error) error {
	if bad, offset := kjson.SyntaxErrorOffset(err); bad {
		return apierrors.NewBadRequest(fmt.Sprintf("couldn't get version/kind; json parse error: %v (at offset %d)", err, offset))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", d.kind.Kind, d.kind.Version, d.kind.Kind, err))
}

// report makes what was not strictly right an error or warnings.
func (d *decoder) report(strict []error, into any) error {
	_, typed := into.(hasObjectKind)
	var texts []string
	for _, e := range strict {
		text := e.Error()
		if !typed && (text == `unknown field "kind"` || text == `unknown field "apiVersion"`) {
			continue // of every object, though this type has no fields for them
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil
	}
	if d.validation == validateStrict {
		return d.unusable(errors.New("strict decoding error: " + strings.Join(texts, ", ")))
	}
	for _, text := range texts {
		d.warn(text)
	}
	return nil
}

// checkKind compares the kind that the body names, if it does, with the one
// that the URL is for.
func (d *decoder) checkKind(data []byte, into any) error {
	var got metav1.TypeMeta
	if k, ok := into.(hasObjectKind); ok {
		got.APIVersion, got.Kind = k.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	} else if err := json.Unmarshal(data, &got); err != nil {
		return d.unusable(err)
	}
	return d.match(got)
}

func (d *decoder) match(got metav1.TypeMeta) error {
	want := d.kind.GroupVersion().String()
	if got.APIVersion != "" && got.APIVersion != want && !d.anyGroup {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got.APIVersion, want))
	}
	if got.Kind != "" && got.Kind != d.kind.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: no kind %q is expected here", got.Kind, d.kind.Version, d.kind.Kind, got.Kind))
	}
	return nil
}

// protobufMagic begins what Kubernetes encodes as protobuf; an envelope that
// names the kind follows.
var protobufMagic = []byte("k8s\x00")

type unmarshaler interface{ Unmarshal([]byte) error }

func (d *decoder) protobuf(data []byte, into any) (err error) {
	defer func() { // generated code trusts lengths more than it should
		if r := recover(); r != nil {
			err = d.unusable(fmt.Errorf("the message is damaged: %v", r))
		}
	}()
	u, ok := into.(unmarshaler)
	if !ok {
		return unsupportedMediaType(typeProtobuf, typeJSON, typeYAML)
	}
	body, ok := bytes.CutPrefix(data, protobufMagic)
	if !ok {
		return d.unusable(errors.New("the body does not begin as a protobuf message of Kubernetes does"))
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(body); err != nil {
		return d.unusable(err)
	}
	if err := d.match(metav1.TypeMeta{APIVersion: envelope.APIVersion, Kind: envelope.Kind}); err != nil {
		return err
	}
	if err := u.Unmarshal(envelope.Raw); err != nil {
		return d.unusable(err)
	}
	return nil
}

// checkDepth refuses JSON that nests deeper than that: decoders recurse.
func checkDepth(data []byte, limit int) error {
	depth, inText := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inText:
			switch c {
			case '\\':
				i++
			case '"':
				inText = false
			}
		case c == '"':
			inText = true
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return fmt.Errorf("the body nests deeper than %d levels", limit)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
