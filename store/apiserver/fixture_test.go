// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/builtin"
	"github.com/slipway-dev/slipway/store/memory"
)

// backup is a user's own type.
type backup struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Source string   `json:"source"`
		Keep   int32    `json:"keep,omitempty"`
		Tags   []string `json:"tags,omitempty" listType:"set"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase,omitempty"`
	} `json:"status,omitzero"`
}

func (b *backup) DeepCopy() *backup { return store.DeepCopy(b) }

func backups() apiserver.Resource[*backup] {
	return apiserver.Resource[*backup]{
		Kind: store.Kind[*backup]{
			Name: "Backup", Group: "example.com", Version: "v1",
			Indexes: []*store.Index[*backup]{store.NewIndex("spec.source", func(b *backup) string { return b.Spec.Source })},
			Default: func(b *backup) { b.Spec.Keep = max(b.Spec.Keep, 1) },
			Validate: func(_, b *backup) error {
				if b.Spec.Keep > 100 {
					return field.Invalid(field.NewPath("spec", "keep"), b.Spec.Keep, "must be at most 100")
				}
				return nil
			},
			Immutable: []store.Field[*backup]{{Name: "spec.source", Get: func(b *backup) any { return b.Spec.Source }}},
		},
		Columns: []apiserver.Column[*backup]{{Name: "Phase", Value: func(b *backup) any { return b.Status.Phase }}, apiserver.Age[*backup]()},
		Scale: &apiserver.Scale[*backup]{
			Replicas:    func(b *backup) int32 { return b.Spec.Keep },
			SetReplicas: func(b *backup, n int32) { b.Spec.Keep = n },
			Status:      func(b *backup) int32 { return 0 },
		},
	}
}

const (
	backupsPath = "/apis/example.com/v1/namespaces/a/backups"
	podsPath    = "/api/v1/namespaces/a/pods"
)

// fixture is a server, reached by HTTP.
type fixture struct {
	*testing.T
	store  *memory.Store
	server *apiserver.Server
	url    string
	client *http.Client
}

func newFixture(t *testing.T, opts apiserver.Options, stOpts ...memory.Options) *fixture {
	t.Helper()
	st := memory.New(append(stOpts, memory.Options{})[0])
	t.Cleanup(func() { st.Close() })
	s, err := apiserver.New(st, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := builtin.Register(s, append(builtin.All(), backups())...); err != nil {
		t.Fatal(err)
	}
	return serveFixture(t, st, s)
}

func serveFixture(t *testing.T, st *memory.Store, s *apiserver.Server) *fixture {
	h := httptest.NewServer(s)
	t.Cleanup(func() { s.Drain(); h.CloseClientConnections(); h.Close() })
	return &fixture{t, st, s, h.URL, h.Client()}
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

func (f *fixture) do(method, path, body string, headers ...string) answer {
	f.Helper()
	r, err := http.NewRequestWithContext(f.Context(), method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := f.client.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

// want checks the code and that the body has each of the texts.
func (f *fixture) want(a answer, code int, texts ...string) answer {
	f.Helper()
	if a.code != code {
		f.Errorf("code %d, want %d: %s", a.code, code, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(string(a.body), text) {
			f.Errorf("want %q in %s", text, a.body)
		}
	}
	return a
}

// get returns the value at a path of the answer's JSON, as text: "spec.keep".
func (a answer) get(path string) string {
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		return "no JSON: " + string(a.body)
	}
	for key := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			var i int
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(x) {
				return "<none>"
			}
			v = x[i]
		default:
			return "<none>"
		}
	}
	if v == nil {
		return "<none>"
	}
	return fmt.Sprint(v)
}

func backupJSON(name, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Backup","metadata":{"name":%q},"spec":%s}`, name, spec)
}

func podJSON(name string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"app":"x"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`, name)
}

// stream is a watch, line by line.
type stream struct {
	f      *fixture
	lines  *bufio.Reader
	cancel func()
	resp   *http.Response
}

func (f *fixture) watch(path string, headers ...string) *stream {
	f.Helper()
	ctx, cancel := context.WithCancel(f.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := f.client.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { cancel(); resp.Body.Close() })
	return &stream{f, bufio.NewReader(resp.Body), cancel, resp}
}

// next returns the next event, or "EOF".
func (s *stream) next() (answer, string) {
	s.f.Helper()
	type result struct {
		line []byte
		err  error
	}
	got := make(chan result, 1)
	go func() { line, err := s.lines.ReadBytes('\n'); got <- result{line, err} }()
	select {
	case r := <-got:
		if r.err != nil {
			return answer{}, "EOF"
		}
		a := answer{body: r.line}
		return a, a.get("type") + " " + a.get("object.metadata.name")
	case <-time.After(10 * time.Second):
		s.f.Fatal("no event in ten seconds")
	}
	return answer{}, ""
}

func (s *stream) want(events ...string) {
	s.f.Helper()
	for _, want := range events {
		if a, got := s.next(); got != want {
			s.f.Errorf("event %q, want %q: %s", got, want, a.body)
		}
	}
}
