// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/volume"
)

// The waits between tries to mount, as kubelet has them.
const (
	firstMountRetry = 500 * time.Millisecond
	maxMountRetry   = 2*time.Minute + 2*time.Second
)

// mountVolumes makes all volumes present, and with content brings those that have
// sources up to date. A running pod keeps its old content if that fails.
func (w *worker) mountVolumes(ctx context.Context, p *Pod, content bool) bool {
	if len(p.Spec.Volumes) == 0 || w.mounted && !content {
		return true
	}
	if w.mounts == nil {
		w.mounts = map[string]string{}
	}
	var err error
	var name string
	w.m.queue.aside(func() {
		for n := range p.Spec.Volumes {
			v := &p.Spec.Volumes[n]
			if w.mounted && v.Projected == nil {
				continue
			}
			name = v.Name
			if w.mounts[v.Name], err = w.mount(ctx, p, v); err != nil {
				return
			}
		}
	})
	if err == nil {
		w.mounted, w.mountRetry = true, retry{}
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	w.warn(p, "", EventFailedMount, "MountVolume.SetUp failed for volume %q : %v", name, err)
	now := time.Now()
	w.mountRetry.next(BackOff{firstMountRetry, maxMountRetry}, now, now)
	w.wakeAt(now.Add(w.mountRetry.delay))
	w.mu.Lock()
	w.content = true
	w.mu.Unlock()
	return w.mounted
}

// mount makes one volume present, and returns its path on the machine.
func (w *worker) mount(ctx context.Context, p *Pod, v *Volume) (string, error) {
	if v.HostPath != nil {
		return v.HostPath.Path, checkHostPath(v.HostPath)
	}
	if w.m.config.Root == "" {
		return "", errors.New("this manager has no directory for volumes: Config.Root is empty")
	}
	path := w.m.volumeDir(p.UID, v.Name)
	switch {
	case v.EmptyDir != nil:
		if err := os.MkdirAll(path, 0o777); err != nil {
			return "", err
		}
		if v.EmptyDir.Medium == MediumMemory {
			return path, mountMemory(path, v.EmptyDir.SizeLimit)
		}
		return path, os.Chmod(path, 0o777) // whatever the umask is: containers may run as anybody
	case v.Projected != nil:
		files, err := w.project(ctx, p, v.Projected)
		if err != nil {
			return "", err
		}
		_, err = volume.Write(path, files)
		return path, err
	case v.CSI != nil:
		return path, w.publish(ctx, p, v.CSI, path)
	}
	return "", errors.New("it has no source")
}

func checkHostPath(h *HostPath) error {
	switch h.Type {
	case "DirectoryOrCreate":
		return os.MkdirAll(h.Path, 0o755)
	case "FileOrCreate":
		f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	case "":
		return nil
	}
	info, err := os.Stat(h.Path)
	switch {
	case err != nil:
		return err
	case h.Type == "Directory" && !info.IsDir():
		return fmt.Errorf("hostPath type check failed: %s is not a directory", h.Path)
	case h.Type == "File" && !info.Mode().IsRegular():
		return fmt.Errorf("hostPath type check failed: %s is not a file", h.Path)
	}
	return nil
}

// project collects the files of a projected volume; a later source wins.
func (w *worker) project(ctx context.Context, p *Pod, pr *Projected) (map[string]volume.File, error) {
	files := map[string]volume.File{}
	for n := range pr.Sources {
		s := &pr.Sources[n]
		switch {
		case s.ConfigMap != "" || s.Secret != "":
			if err := w.projectObject(ctx, p, pr, s, files); err != nil {
				return nil, err
			}
		case s.Token != nil:
			if w.m.config.References == nil {
				return nil, errors.New("no service account tokens: Config.References is nil")
			}
			token, err := w.m.config.References.Token(ctx, p, s.Token.Audience, s.Token.Expiration)
			if err != nil {
				return nil, fmt.Errorf("service account token: %w", err)
			}
			files[s.Token.Path] = volume.File{Data: []byte(token), Mode: 0o600}
		default:
			for _, f := range s.Fields {
				value, err := w.fieldFile(p, f)
				if err != nil {
					return nil, err
				}
				files[f.Path] = volume.File{Data: []byte(value), Mode: fs.FileMode(pr.Mode)}
			}
		}
	}
	return files, nil
}

func (w *worker) fieldFile(p *Pod, f FieldFile) (string, error) {
	if f.ResourceRef == nil {
		return w.field(p, f.FieldRef)
	}
	return resourceField(p, &Container{}, f.ResourceRef)
}

func (w *worker) projectObject(ctx context.Context, p *Pod, pr *Projected, s *Projection, files map[string]volume.File) error {
	kind, name := "configmap", s.ConfigMap
	if s.Secret != "" {
		kind, name = "secret", s.Secret
	}
	keys, err := w.object(ctx, kind, p.namespace(), name)
	if err != nil {
		if s.Optional && errors.Is(err, runtime.ErrNotFound) {
			return nil
		}
		return err
	}
	items := s.Items
	if items == nil {
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			items = append(items, KeyPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		data, ok := keys[item.Key]
		if !ok && !s.Optional {
			return fmt.Errorf("%s references non-existent config key: %s", kind, item.Key)
		}
		if ok {
			files[item.Path] = volume.File{Data: data, Mode: fs.FileMode(or(item.Mode, pr.Mode))}
		}
	}
	return nil
}

// published is what is kept on disk of a driver's volume, so that it can be given back
// when nothing else is known of the pod.
type published struct {
	Driver, VolumeID string
}

func (w *worker) driver(name string) (volume.Driver, error) {
	d := w.m.config.Drivers[name]
	if d == nil {
		return nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", name)
	}
	return d, nil
}

func (m *Manager) staging(p published) string {
	return filepath.Join(m.config.Root, "staging", fmt.Sprintf("%x", sha256.Sum256([]byte(p.Driver+"\x00"+p.VolumeID))))
}

const publishedSuffix = ".volume.json"

func (w *worker) publish(ctx context.Context, p *Pod, s *volume.Source, target string) error {
	d, err := w.driver(s.Driver)
	if err != nil {
		return err
	}
	record := published{s.Driver, s.VolumeID}
	staging := w.m.staging(record)
	if err := errors.Join(os.MkdirAll(target, 0o755), os.MkdirAll(staging, 0o755)); err != nil {
		return err
	}
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := os.WriteFile(target+publishedSuffix, b, 0o600); err != nil {
		return err
	}
	if err := d.Stage(ctx, *s, staging); err != nil {
		return fmt.Errorf("stage volume %s of %s: %w", s.VolumeID, s.Driver, err)
	}
	who := volume.Pod{Namespace: p.namespace(), Name: p.Name, UID: p.UID, ServiceAccount: p.Spec.ServiceAccountName}
	if err := d.Publish(ctx, *s, staging, target, who); err != nil {
		return fmt.Errorf("publish volume %s of %s: %w", s.VolumeID, s.Driver, err)
	}
	return nil
}

// unmountVolumes gives back the volumes of a pod. It knows them from the disk
// alone, since the agent may have been restarted.
func (w *worker) unmountVolumes(ctx context.Context, p *Pod) error {
	if w.m.config.Root == "" {
		return nil
	}
	dir := w.m.volumeDir(p.UID, "")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		record := filepath.Join(dir, e.Name())
		if filepath.Ext(e.Name()) == ".json" && len(e.Name()) > len(publishedSuffix) {
			if err := w.unpublish(ctx, record); err != nil {
				return err
			}
		}
	}
	for _, e := range entries {
		err := error(nil)
		if path := filepath.Join(dir, e.Name()); e.IsDir() {
			err = unmountMemory(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unmount volume %s: %w", e.Name(), err)
		}
	}
	w.mounted = false
	return os.RemoveAll(dir)
}

func (w *worker) unpublish(ctx context.Context, record string) error {
	b, err := os.ReadFile(record)
	if err != nil {
		return err
	}
	var v published
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("%s: %w", record, err)
	}
	d, err := w.driver(v.Driver)
	if err != nil {
		return err
	}
	target := record[:len(record)-len(publishedSuffix)]
	if err := d.Unpublish(ctx, v.VolumeID, target); err != nil {
		return fmt.Errorf("unpublish volume %s of %s: %w", v.VolumeID, v.Driver, err)
	}
	// The driver has unmounted it, so this removes an empty directory and never a volume's content.
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(record); err != nil {
		return err
	}
	return w.m.unstage(ctx, d, v)
}

// unstage gives a volume back to its driver if no pod uses it. The records on
// disk are the count of uses: it survives the agent.
func (m *Manager) unstage(ctx context.Context, d volume.Driver, v published) error {
	m.volumes.Lock()
	defer m.volumes.Unlock()
	records, err := filepath.Glob(filepath.Join(m.config.Root, "pods", "*", "volumes", "*"+publishedSuffix))
	if err != nil {
		return err
	}
	for _, path := range records {
		var other published
		if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &other) == nil && other == v {
			return nil
		}
	}
	staging := m.staging(v)
	if err := d.Unstage(ctx, v.VolumeID, staging); err != nil {
		return fmt.Errorf("unstage volume %s of %s: %w", v.VolumeID, v.Driver, err)
	}
	return os.Remove(staging)
}

// refreshVolumes has all pods compare their volumes with the sources.
func (m *Manager) refreshVolumes() { m.ReferencesChanged("") }

// ReferencesChanged says that configMaps or secrets of a namespace have changed (empty: of any), so
// that volumes follow at once and pods that wait for them go on.
func (m *Manager) ReferencesChanged(namespace string) {
	for _, w := range m.workers() {
		w.mu.Lock()
		p := w.pod
		if p != nil && (namespace == "" || p.namespace() == namespace) && p.refers() {
			w.content = true
			w.wakeLocked()
		}
		w.mu.Unlock()
	}
}

// refers reports whether a pod depends on configMaps, secrets or fields.
func (p *Pod) refers() bool {
	if slices.ContainsFunc(p.Spec.Volumes, func(v Volume) bool { return v.Projected != nil }) {
		return true
	}
	for _, list := range [][]Container{p.Spec.InitContainers, p.Spec.Containers, p.Spec.EphemeralContainers} {
		for _, c := range list {
			if len(c.EnvFrom) > 0 || slices.ContainsFunc(c.Env, func(e EnvVar) bool { return e.ConfigMapKeyRef != nil || e.SecretKeyRef != nil }) {
				return true
			}
		}
	}
	return false
}

// containerMounts are the mounts of one container.
func (w *worker) containerMounts(p *Pod, c *Container, attempt uint32) ([]runtime.Mount, error) {
	var list []runtime.Mount
	for _, m := range c.VolumeMounts {
		host := w.mounts[m.Name]
		if m.SubPath != "" {
			if !filepath.IsLocal(m.SubPath) {
				return nil, fmt.Errorf("subPath %q of volume %s: want a path inside the volume", m.SubPath, m.Name)
			}
			host = filepath.Join(host, m.SubPath)
			if err := makeSubPath(host); err != nil {
				return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
		}
		readOnly := m.ReadOnly
		for _, v := range p.Spec.Volumes {
			readOnly = readOnly || v.Name == m.Name && v.Projected != nil
		}
		list = append(list, runtime.Mount{ContainerPath: m.MountPath, HostPath: host, ReadOnly: readOnly, Propagation: m.Propagation})
	}
	if c.TerminationMessagePath != "" && w.m.config.Root != "" {
		file := w.messageFile(c.Name, attempt)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			return nil, err
		}
		if err := os.Chmod(file, 0o666); err != nil {
			return nil, err
		}
		list = append(list, runtime.Mount{ContainerPath: c.TerminationMessagePath, HostPath: file})
	}
	return list, nil
}

func makeSubPath(path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(path, 0o755)
	}
	return err
}
