// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/pod"
	"github.com/slipway-dev/slipway/runtime/volume"
)

// library is a References in memory.
type library struct {
	mu      sync.Mutex
	objects map[string]map[string][]byte // by kind/namespace/name
}

func (l *library) put(key string, data map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.objects == nil {
		l.objects = map[string]map[string][]byte{}
	}
	l.objects[key] = map[string][]byte{}
	for k, v := range data {
		l.objects[key][k] = []byte(v)
	}
}

func (l *library) find(key string) (map[string][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o, ok := l.objects[key]; ok {
		return o, nil
	}
	return nil, runtime.ErrNotFound
}

func (l *library) ConfigMap(_ context.Context, namespace, name string) (map[string][]byte, error) {
	return l.find("configmap/" + namespace + "/" + name)
}

func (l *library) Secret(_ context.Context, namespace, name string) (map[string][]byte, error) {
	return l.find("secret/" + namespace + "/" + name)
}

func (l *library) Token(_ context.Context, p *pod.Pod, audience string, _ time.Duration) (string, error) {
	return "token of " + p.Spec.ServiceAccountName + " for " + audience, nil
}

// seen keeps the configurations with which containers were created.
func seen(into *sync.Map) func(*runtime.PodSandboxConfig, *runtime.ContainerConfig) fake.Behaviour {
	return func(_ *runtime.PodSandboxConfig, c *runtime.ContainerConfig) fake.Behaviour {
		into.Store(c.Metadata.Name, c)
		return fake.Behaviour{}
	}
}

func TestEnvironment(t *testing.T) {
	refs := &library{}
	refs.put("configmap/default/settings", map[string]string{"COLOR": "blue", "SIZE": "9"})
	refs.put("secret/default/keys", map[string]string{"password": "hunter2"})
	var configs sync.Map
	in(t, fake.Options{Script: seen(&configs)}, pod.Config{References: refs, HostIP: "192.0.2.1"}, func(w *world) {
		p := simple("a", "run", "$(COLOR)-$(NAME)", "$$(COLOR)", "$(UNKNOWN)")
		p.Labels = map[string]string{"app": "web"}
		p.Spec.NodeName = "node-1"
		c := &p.Spec.Containers[0]
		c.Resources = pod.Resources{Limits: pod.ResourceList{CPU: 1500, Memory: 64 << 20}}
		c.EnvFrom = []pod.EnvFrom{{ConfigMap: "settings"}, {Prefix: "P_", ConfigMap: "settings"}, {Secret: "missing", Optional: true}}
		c.Env = []pod.EnvVar{
			{Name: "NAME", FieldRef: "metadata.name"}, {Name: "APP", FieldRef: "metadata.labels['app']"}, {Name: "IP", FieldRef: "status.podIP"},
			{Name: "HOST", FieldRef: "status.hostIP"}, {Name: "NODE", FieldRef: "spec.nodeName"},
			{Name: "PASSWORD", SecretKeyRef: &pod.KeyRef{Name: "keys", Key: "password"}},
			{Name: "NONE", SecretKeyRef: &pod.KeyRef{Name: "keys", Key: "none", Optional: true}},
			{Name: "CPUS", ResourceRef: &pod.ResourceRef{Resource: "limits.cpu"}}, {Name: "MIB", ResourceRef: &pod.ResourceRef{Resource: "limits.memory", Divisor: 1 << 20}},
			{Name: "BOTH", Value: "$(COLOR) $(SIZE) $(NAME"},
		}
		w.set(p)
		w.want("a", "main", "Running")
		got, _ := configs.Load("main")
		config := got.(*runtime.ContainerConfig)
		var env []string
		for _, e := range config.Env {
			env = append(env, e.Name+"="+e.Value)
		}
		want := []string{"COLOR=blue", "SIZE=9", "P_COLOR=blue", "P_SIZE=9", "NAME=a", "APP=web", "IP=" + w.status("a").PodIP(), "HOST=192.0.2.1",
			"NODE=node-1", "PASSWORD=hunter2", "CPUS=2", "MIB=64", "BOTH=blue 9 $(NAME"}
		if d := cmp.Diff(want, env); d != "" {
			t.Errorf("environment (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"run", "blue-a", "$(COLOR)", "$(UNKNOWN)"}, config.Command); d != "" {
			t.Errorf("command (-want +got):\n%s", d)
		}
	})
}

func TestMissingReference(t *testing.T) {
	refs := &library{}
	in(t, fake.Options{}, pod.Config{References: refs}, func(w *world) {
		p := simple("a")
		p.Spec.Containers[0].Env = []pod.EnvVar{{Name: "X", ConfigMapKeyRef: &pod.KeyRef{Name: "settings", Key: "x"}}}
		w.set(p)
		w.want("a", "main", "Waiting:CreateContainerConfigError")
		if m := w.status("a").ContainerStatuses[0].State.Waiting.Message; m != `configmap "settings" not found` {
			t.Errorf("message %q", m)
		}
		refs.put("configmap/default/settings", map[string]string{"x": "1"})
		w.m.ReferencesChanged("default") // at once, without the wait for the next try
		w.want("a", "main", "Running")
	})
}

func TestVolumes(t *testing.T) {
	refs := &library{}
	refs.put("configmap/default/settings", map[string]string{"a": "1", "b": "2"})
	host := t.TempDir()
	driver := &recorder{}
	var configs sync.Map
	config := pod.Config{Root: t.TempDir(), References: refs, Drivers: map[string]volume.Driver{"disk.example.com": driver}}
	in(t, fake.Options{Script: seen(&configs)}, config, func(w *world) {
		p := simple("a")
		p.Labels = map[string]string{"app": "web"}
		p.Spec.ServiceAccountName = "builder"
		p.Spec.Volumes = []pod.Volume{
			{Name: "scratch", EmptyDir: &pod.EmptyDir{}},
			{Name: "host", HostPath: &pod.HostPath{Path: host, Type: "Directory"}},
			{Name: "settings", Projected: &pod.Projected{Sources: []pod.Projection{
				{ConfigMap: "settings", Items: []pod.KeyPath{{Key: "a", Path: "sub/a"}}},
				{Fields: []pod.FieldFile{{Path: "labels", FieldRef: "metadata.labels"}}},
				{Token: &pod.TokenFile{Path: "token", Audience: "api"}},
			}}},
			{Name: "disk", CSI: &volume.Source{Driver: "disk.example.com", VolumeID: "v1"}},
		}
		for _, v := range p.Spec.Volumes {
			p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, pod.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
		}
		w.set(p)
		w.want("a", "main", "Running")
		mounts := map[string]runtime.Mount{}
		got, _ := configs.Load("main")
		for _, m := range got.(*runtime.ContainerConfig).Mounts {
			mounts[m.ContainerPath] = m
		}
		file := func(path string) string {
			b, err := os.ReadFile(filepath.Join(mounts["/settings"].HostPath, path))
			if err != nil {
				t.Error(err)
			}
			return string(b)
		}
		if a, l, k := file("sub/a"), file("labels"), file("token"); a != "1" || l != `app="web"` || k != "token of builder for api" {
			t.Errorf("projected: %q, %q, %q", a, l, k)
		}
		if mounts["/host"].HostPath != host || !mounts["/settings"].ReadOnly || mounts["/scratch"].ReadOnly {
			t.Errorf("mounts %+v", mounts)
		}
		refs.put("configmap/default/settings", map[string]string{"a": "new"})
		w.after(time.Minute)
		if a := file("sub/a"); a != "new" {
			t.Errorf("a minute after the configMap changed: %q", a)
		}
		w.stop()
		w.start() // the volumes are known from the disk alone
		if err := w.m.Sync(nil); err != nil {
			t.Error(err)
		}
		w.after(time.Minute)
		w.nothingLeft()
		if entries, _ := os.ReadDir(filepath.Join(config.Root, "pods")); len(entries) != 0 {
			t.Errorf("left over: %v", entries)
		}
		if want := "stage v1, publish v1, unpublish v1, unstage v1"; driver.story() != want {
			t.Errorf("driver: %s, want %s", driver.story(), want)
		}
	})
}

func TestVolumeErrors(t *testing.T) {
	driver := &recorder{fail: true}
	config := pod.Config{Root: t.TempDir(), Drivers: map[string]volume.Driver{"disk.example.com": driver}}
	in(t, fake.Options{}, config, func(w *world) {
		p := simple("a")
		p.Spec.Volumes = []pod.Volume{{Name: "disk", CSI: &volume.Source{Driver: "disk.example.com", VolumeID: "v1"}}}
		w.set(p)
		w.want("a", "main", "Waiting:ContainerCreating")
		if m := w.message(pod.EventFailedMount); !strings.HasPrefix(m, `MountVolume.SetUp failed for volume "disk" : `) || !strings.Contains(m, "no such disk") {
			t.Errorf("message %q", m)
		}
		driver.heal()
		w.after(time.Minute)
		w.want("a", "main", "Running")
	})
}

// recorder is a volume driver that notes what it is asked.
type recorder struct {
	mu    sync.Mutex
	calls []string
	fail  bool
}

func (r *recorder) note(call string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail {
		return errors.New("no such disk")
	}
	r.calls = append(r.calls, call)
	return nil
}

func (r *recorder) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = false
}

func (r *recorder) story() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls, ", ")
}

func (r *recorder) Stage(_ context.Context, s volume.Source, staging string) error {
	if _, err := os.Stat(staging); err != nil {
		return fmt.Errorf("staging: %w", err)
	}
	return r.note("stage " + s.VolumeID)
}

func (r *recorder) Publish(_ context.Context, s volume.Source, _, _ string, _ volume.Pod) error {
	return r.note("publish " + s.VolumeID)
}

func (r *recorder) Unpublish(_ context.Context, id, _ string) error { return r.note("unpublish " + id) }
func (r *recorder) Unstage(_ context.Context, id, _ string) error   { return r.note("unstage " + id) }
