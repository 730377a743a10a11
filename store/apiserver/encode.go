// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/slipway-dev/slipway/store"
)

// encodings remembers how stored objects are written. An object that a store
// hands out never changes, so its encoding is made once for all who get it: the
// answer to the write, each watcher's event, each list.
//
// Memory is bounded: each shard forgets its oldest encodings first.
type encodings struct {
	limit  int // bytes in a shard
	shards [64]shard
}

type shard struct {
	mu    sync.RWMutex
	known map[encodingKey][]byte
	queue []encodingKey // in the order of arrival, from head
	head  int
	bytes int
}

// encodingKey is an object by its identity, and a format.
type encodingKey struct {
	object store.Object
	format format
}

func newEncodings(limit int64) *encodings {
	return &encodings{limit: int(limit) / len(encodings{}.shards)}
}

// of returns the object's encoding, which is shared and must not be changed.
func (e *encodings) of(r *resource, o store.Object, f format) ([]byte, error) {
	key := encodingKey{o, f}
	s := &e.shards[shardOf(o)]
	s.mu.RLock()
	data, ok := s.known[key]
	s.mu.RUnlock()
	if ok {
		return data, nil
	}
	data, err := encode(r.gvk, o, f)
	if err == nil {
		s.put(key, data, e.limit)
	}
	return data, err
}

// shardOf spreads objects by name: an identity can't be hashed from here.
func shardOf(o store.Object) int {
	h := uint32(2166136261)
	for name, i := o.GetName(), 0; i < len(name); i++ {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h>>8) % len(encodings{}.shards)
}

func (s *shard) put(key encodingKey, data []byte, limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[key]; ok || len(data) > limit/4 {
		return
	}
	if s.known == nil {
		s.known = map[encodingKey][]byte{}
	}
	s.known[key] = data
	s.queue = append(s.queue, key)
	s.bytes += len(data)
	for s.bytes > limit {
		oldest := s.queue[s.head]
		s.queue[s.head] = encodingKey{}
		s.head++
		s.bytes -= len(s.known[oldest])
		delete(s.known, oldest)
	}
	if s.head > len(s.queue)/2 {
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
}

// encode writes any value as an object of the kind.
func encode(kind gvk, v any, f format) ([]byte, error) {
	switch f {
	case formatProtobuf:
		return encodeProtobuf(kind, v)
	case formatYAML:
		data, err := encodeJSON(kind, v)
		if err != nil {
			return nil, err
		}
		return yaml.JSONToYAML(data)
	}
	return encodeJSON(kind, v)
}

// encodeJSON writes kind and apiVersion before the rest, unless the value does
// it itself.
func encodeJSON(kind gvk, v any) ([]byte, error) {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind.Kind, err)
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if !bytes.HasPrefix(body, []byte("{")) {
		return nil, fmt.Errorf("encode %s: its JSON is no object: %.20q", kind.Kind, body)
	}
	if u, ok := v.(unstructuredObject); ok {
		if content := u.UnstructuredContent(); content["kind"] != nil && content["apiVersion"] != nil {
			return bytes.Clone(body), nil
		}
	} else if bytes.HasPrefix(body, []byte(`{"kind":"`)) || bytes.HasPrefix(body, []byte(`{"apiVersion":"`)) {
		return bytes.Clone(body), nil
	}
	out := make([]byte, 0, len(body)+len(kind.Kind)+len(kind.Group)+len(kind.Version)+32)
	out = appendKind(out, kind)
	if len(body) > 2 {
		out = append(out, ',')
	}
	return append(out, body[1:]...), nil
}

// appendKind begins a JSON object with its kind and API version.
func appendKind(out []byte, kind gvk) []byte {
	out = append(out, `{"kind":"`...)
	out = append(out, kind.Kind...)
	out = append(out, `","apiVersion":"`...)
	if kind.Group != "" {
		out = append(append(out, kind.Group...), '/')
	}
	out = append(out, kind.Version...)
	return append(out, '"')
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

type marshaler interface{ Marshal() ([]byte, error) }

func encodeProtobuf(kind gvk, v any) ([]byte, error) {
	m, ok := v.(marshaler)
	if !ok {
		return nil, fmt.Errorf("encode %s: %T has no protobuf form", kind.Kind, v)
	}
	raw, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind.Kind, err)
	}
	return envelope(kind, raw)
}

// envelope puts a message into the frame that names its kind.
func envelope(kind gvk, raw []byte) ([]byte, error) {
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind}, Raw: raw}
	out := make([]byte, len(protobufMagic)+u.Size())
	copy(out, protobufMagic)
	if _, err := u.MarshalTo(out[len(protobufMagic):]); err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind.Kind, err)
	}
	return out, nil
}
