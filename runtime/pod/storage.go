// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// storageInterval is how often the limits of local storage are checked, as in kubelet.
const storageInterval = 10 * time.Second

// space is what files take.
type space struct{ bytes, inodes int64 }

func (s *space) add(o space) {
	s.bytes += o.bytes
	s.inodes += o.inodes
}

// spaceOf measures directories, as far as they can be read. What changes meanwhile is counted or not. Other
// file systems that are mounted below are counted too: see localStorage for what is measured. A file
// with two names counts twice.
func spaceOf(ctx context.Context, dirs ...string) space {
	var sum space
	for _, dir := range dirs {
		filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // gone, or not ours to see
			}
			if info, err := d.Info(); err == nil {
				sum.add(space{allocated(info), 1})
			}
			return ctx.Err()
		})
	}
	return sum
}

// localStorage measures what a pod has on the machine's disk: its emptyDirs by name, and its logs by container.
// Volumes of drivers and those in memory are not on it.
func (m *Manager) localStorage(ctx context.Context, p *Pod) (volumes, logs map[string]space, sum space) {
	volumes, logs = map[string]space{}, map[string]space{}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.EmptyDir != nil && v.EmptyDir.Medium != MediumMemory {
			volumes[v.Name] = spaceOf(ctx, m.volumeDir(p.UID, v.Name))
			sum.add(volumes[v.Name])
		}
	}
	for _, list := range [][]Container{p.Spec.InitContainers, p.Spec.Containers, p.Spec.EphemeralContainers} {
		for i := range list {
			name := list[i].Name
			logs[name] = spaceOf(ctx, filepath.Join(m.logDir(p), name))
			sum.add(logs[name])
		}
	}
	return volumes, logs, sum
}

// limitsStorage reports whether a pod has limits that localStorage has to be compared with.
func (p *Pod) limitsStorage() bool {
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.EmptyDir != nil && v.EmptyDir.SizeLimit > 0 && v.EmptyDir.Medium != MediumMemory {
			return true
		}
	}
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Resources.Limits.EphemeralStorage > 0 {
			return true
		}
	}
	return false
}

// enforceStorage ends pods that use more local storage than they may. Nothing stops them from writing
// more than that for a moment: like kubelet this looks at intervals.
func (m *Manager) enforceStorage(ctx context.Context) {
	for _, w := range m.workers() {
		p, ok := w.evictable()
		if !ok || !p.limitsStorage() {
			continue
		}
		if message := m.overStorage(ctx, w, p); message != "" && ctx.Err() == nil {
			w.warn(p, "", EventEvicted, "%s", message)
			w.fail(ReasonEvicted, message, new(time.Duration(0)))
		}
	}
}

// overStorage says which limit a pod is over, in kubelet's words.
func (m *Manager) overStorage(ctx context.Context, w *worker, p *Pod) string {
	volumes, logs, sum := m.localStorage(ctx, p)
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.EmptyDir != nil && v.EmptyDir.SizeLimit > 0 && volumes[v.Name].bytes > v.EmptyDir.SizeLimit {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, quantity(v.EmptyDir.SizeLimit))
		}
	}
	layers, err := m.writableLayers(ctx, w)
	if err != nil {
		m.config.Log.Warn("storage of pod", "pod", p.String(), "err", err)
	}
	total := int64(0)
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		limit := c.Resources.Limits.EphemeralStorage
		total += limit
		sum.bytes += layers[c.Name]
		if limit > 0 && logs[c.Name].bytes+layers[c.Name] > limit {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, quantity(limit))
		}
	}
	if total > 0 && sum.bytes > total {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", quantity(total))
	}
	return ""
}

// writableLayers is what containers wrote into their own file systems, by name, as far as the runtime knows.
func (m *Manager) writableLayers(ctx context.Context, w *worker) (map[string]int64, error) {
	w.mu.Lock()
	id := w.sandboxID
	w.mu.Unlock()
	if id == "" {
		return nil, nil
	}
	stats, err := m.config.Runtime.PodSandboxStats(ctx, id)
	if errors.Is(err, runtime.ErrNotFound) || errors.Is(err, runtime.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	layers := map[string]int64{}
	for _, c := range stats.Containers {
		layers[c.Metadata.Name] = int64(c.WritableLayer.UsedBytes)
	}
	return layers, nil
}

// quantity writes bytes as Kubernetes does.
func quantity(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 40, "Ti"}, {1 << 30, "Gi"}, {1 << 20, "Mi"}, {1 << 10, "Ki"}} {
		if n >= unit.size && n%unit.size == 0 {
			return fmt.Sprint(n/unit.size, unit.name)
		}
	}
	return fmt.Sprint(n)
}
