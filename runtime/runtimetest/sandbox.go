// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"errors"
	"slices"

	"github.com/slipway-dev/slipway/runtime"
)

func (s *suite) service() {
	v, err := s.rt.Version(s.Context())
	s.must(err)
	if v.RuntimeName == "" || v.RuntimeAPIVersion != "v1" {
		s.Errorf("Version() = %+v, want a name and API version v1", v)
	}
	st, err := s.rt.Status(s.Context())
	s.must(err)
	if ok, why := st.Ready(); !ok {
		s.Errorf("Status() is not ready: %s", why)
	}
	var types []string
	for _, c := range st.Conditions {
		types = append(types, c.Type)
	}
	for _, want := range []string{runtime.RuntimeReady, runtime.NetworkReady} {
		if !slices.Contains(types, want) {
			s.Errorf("Status() has conditions %q, want %s among them", types, want)
		}
	}
}

func (s *suite) sandboxLifeCycle() {
	id, c := s.sandbox()
	check := func(want runtime.SandboxState) {
		s.Helper()
		st, err := s.rt.PodSandboxStatus(s.Context(), id)
		s.must(err)
		if st.State != want || st.Metadata != c.Metadata || st.ID != id || st.CreatedAt.IsZero() {
			s.Errorf("status = %+v, want state %s, ID %s, metadata %+v and a time", st, want, id, c.Metadata)
		}
		if st.Labels["suite"] != "yes" || st.Annotations["note"] != "kept" {
			s.Errorf("labels %v and annotations %v, want those of the configuration", st.Labels, st.Annotations)
		}
	}
	check(runtime.SandboxReady)
	s.must(s.rt.StopPodSandbox(s.Context(), id))
	check(runtime.SandboxNotReady)
	s.must(s.rt.RemovePodSandbox(s.Context(), id))
	if _, err := s.rt.PodSandboxStatus(s.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("status after remove: %v, want ErrNotFound", err)
	}
	list, err := s.rt.ListPodSandbox(s.Context(), runtime.PodSandboxFilter{})
	s.must(err)
	if len(list) != 0 {
		s.Errorf("list after remove: %v", list)
	}
}

func (s *suite) sandboxInvalid() {
	for _, m := range []runtime.PodSandboxMetadata{{}, {Name: "a"}, {UID: "a"}} {
		if _, err := s.rt.RunPodSandbox(s.Context(), &runtime.PodSandboxConfig{Metadata: m}); !errors.Is(err, runtime.ErrInvalid) {
			s.Errorf("RunPodSandbox(%+v) = %v, want ErrInvalid", m, err)
		}
	}
}

func (s *suite) sandboxUnique() {
	id, c := s.sandbox()
	if _, err := s.rt.RunPodSandbox(s.Context(), c); !errors.Is(err, runtime.ErrAlreadyExists) {
		s.Errorf("the same attempt again: %v, want ErrAlreadyExists", err)
	}
	// Stopped is not gone: only a new attempt, or removal, makes room.
	s.must(s.rt.StopPodSandbox(s.Context(), id))
	if _, err := s.rt.RunPodSandbox(s.Context(), c); !errors.Is(err, runtime.ErrAlreadyExists) {
		s.Errorf("the same attempt after stop: %v, want ErrAlreadyExists", err)
	}
	next := *c
	next.Metadata.Attempt++
	second, err := s.rt.RunPodSandbox(s.Context(), &next)
	s.must(err)
	if second == id {
		s.Error("the next attempt has the ID of the first")
	}
	s.must(s.rt.RemovePodSandbox(s.Context(), id))
	if again, err := s.rt.RunPodSandbox(s.Context(), c); err != nil || again == id {
		s.Errorf("after remove: ID %s, %v, want a new ID", again, err)
	}
}

func (s *suite) sandboxFilters() {
	a, ac := s.sandbox()
	b, _ := s.sandbox()
	s.must(s.rt.StopPodSandbox(s.Context(), b))
	for _, tt := range []struct {
		filter runtime.PodSandboxFilter
		want   []string
	}{
		{runtime.PodSandboxFilter{}, []string{a, b}},
		{runtime.PodSandboxFilter{ID: a}, []string{a}},
		{runtime.PodSandboxFilter{ID: "none"}, nil},
		{runtime.PodSandboxFilter{State: runtime.SandboxReady}, []string{a}},
		{runtime.PodSandboxFilter{State: runtime.SandboxNotReady}, []string{b}},
		{runtime.PodSandboxFilter{Labels: map[string]string{"suite": "yes"}}, []string{a, b}},
		{runtime.PodSandboxFilter{Labels: map[string]string{"n": ac.Labels["n"]}}, []string{a}},
		{runtime.PodSandboxFilter{Labels: map[string]string{"suite": "no"}}, nil},
		{runtime.PodSandboxFilter{State: runtime.SandboxNotReady, Labels: map[string]string{"n": ac.Labels["n"]}}, nil},
	} {
		list, err := s.rt.ListPodSandbox(s.Context(), tt.filter)
		s.must(err)
		var got []string
		for _, p := range list {
			got = append(got, p.ID)
		}
		if !sameSet(got, tt.want) {
			s.Errorf("ListPodSandbox(%+v) = %v, want %v", tt.filter, got, tt.want)
		}
	}
}

func (s *suite) sandboxStopKills() {
	sandbox, c := s.run("trap '' TERM; sleep 1000")
	s.must(s.rt.StopPodSandbox(s.Context(), sandbox))
	if st := s.status(c); st.State != runtime.ContainerExited || st.ExitCode != 137 {
		s.Errorf("container after its sandbox stopped: %s with exit code %d, want Exited with 137", st.State, st.ExitCode)
	}
}

func (s *suite) sandboxRemoves() {
	sandbox, c := s.run("sleep 1000")
	s.must(s.rt.RemovePodSandbox(s.Context(), sandbox))
	if _, err := s.rt.ContainerStatus(s.Context(), c); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("container after its sandbox was removed: %v, want ErrNotFound", err)
	}
}

func (s *suite) sandboxAddresses() {
	seen := map[string]bool{}
	for range 3 {
		id, _ := s.sandbox()
		st, err := s.rt.PodSandboxStatus(s.Context(), id)
		s.must(err)
		for _, ip := range st.IPs {
			if seen[ip] {
				s.Errorf("two sandboxes have the address %s", ip)
			}
			seen[ip] = true
		}
	}
	id, err := s.rt.RunPodSandbox(s.Context(), &runtime.PodSandboxConfig{
		Metadata:   runtime.PodSandboxMetadata{Name: "host", UID: "host"},
		Namespaces: runtime.NamespaceOptions{Network: runtime.NamespaceNode},
	})
	s.must(err)
	st, err := s.rt.PodSandboxStatus(s.Context(), id)
	s.must(err)
	if len(st.IPs) != 0 || st.Namespaces.Network != runtime.NamespaceNode {
		s.Errorf("sandbox in the machine's network: addresses %v, namespaces %+v", st.IPs, st.Namespaces)
	}
}

func sameSet(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
