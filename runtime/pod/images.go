// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// ImageGC says when images that no container uses are removed. Zero fields mean kubelet's.
type ImageGC struct {
	// When the file system of the images is fuller than High, images are removed until it is as full as
	// Low, those first that were not used for longest. Percent (85, 80).
	High, Low int
	// MinAge is how long an image stays after it was first seen, so that it can be used (2 min).
	MinAge time.Duration
	// MaxAge removes an image that was not used for so long, however much room there is; zero: never. A
	// restart of the agent counts as use.
	MaxAge   time.Duration
	Interval time.Duration // between looks (5 min)
}

func (g ImageGC) withDefaults() ImageGC {
	g.High, g.Low = or(g.High, 85), or(g.Low, 80)
	g.MinAge, g.Interval = or(g.MinAge, 2*time.Minute), or(g.Interval, 5*time.Minute)
	return g
}

// imageUse remembers when images were first seen and last used.
type imageUse struct {
	mu   sync.Mutex // held over a whole collection: two at a time would remove too much
	seen map[string]*use
}

type use struct{ first, last time.Time }

// collectImages removes the images that are due, at once and then at an interval.
func (m *Manager) collectImages(ctx context.Context) {
	collect := func() {
		if err := m.collectOnce(ctx); err != nil && ctx.Err() == nil {
			m.config.Log.Warn("image garbage collection", "err", err)
		}
	}
	collect()
	every(ctx, m.config.ImageGC.Interval, collect)
}

func (m *Manager) collectOnce(ctx context.Context) error {
	m.images.mu.Lock()
	defer m.images.mu.Unlock()
	g, now := m.config.ImageGC, time.Now()
	unused, err := m.unusedImages(ctx, now)
	if err != nil {
		return err
	}
	if g.MaxAge > 0 {
		old := slices.IndexFunc(unused, func(i candidateImage) bool { return now.Sub(i.last) < g.MaxAge })
		if old < 0 {
			old = len(unused)
		}
		if _, err := m.removeImages(ctx, unused[:old], 1<<63-1); err != nil {
			return err
		}
		unused = unused[old:]
	}
	usage, err := m.config.Images.ImageFsInfo(ctx)
	if err != nil || len(usage) == 0 || usage[0].CapacityBytes == 0 {
		return err
	}
	capacity := int64(usage[0].CapacityBytes)
	used := capacity - int64(usage[0].AvailableBytes)
	if used*100 < capacity*int64(g.High) {
		return nil
	}
	want := used - capacity*int64(g.Low)/100
	freed, err := m.removeImages(ctx, unused, want)
	if err == nil && freed < want {
		m.config.Log.Warn("image garbage collection: images in use are too large", "wanted", want, "freed", freed)
	}
	return err
}

// removeAllUnused is what a shortage of disk asks for, before any pod has to go. It
// reports whether anything was removed.
func (m *Manager) removeAllUnused(ctx context.Context) (bool, error) {
	m.images.mu.Lock()
	defer m.images.mu.Unlock()
	unused, err := m.unusedImages(ctx, time.Now())
	if err != nil {
		return false, err
	}
	freed, err := m.removeImages(ctx, unused, 1<<63-1)
	return freed > 0, err
}

type candidateImage struct {
	runtime.Image
	last time.Time
}

// unusedImages are the images that may be removed, the one that was used last at the end. It needs m.images.mu.
func (m *Manager) unusedImages(ctx context.Context, now time.Time) ([]candidateImage, error) {
	images, err := m.config.Images.ListImages(ctx, runtime.ImageSpec{})
	if err != nil {
		return nil, err
	}
	// Exited containers count: they may be started again as the next attempt.
	containers, err := m.config.Runtime.ListContainers(ctx, runtime.ContainerFilter{})
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, c := range containers {
		used[c.Image], used[c.ImageRef] = true, true
	}
	seen := map[string]*use{}
	var list []candidateImage
	for _, i := range images {
		u := m.images.seen[i.ID]
		if u == nil {
			u = &use{first: now, last: now}
		}
		seen[i.ID] = u
		if used[i.ID] || slices.ContainsFunc(i.RepoTags, func(s string) bool { return used[s] }) ||
			slices.ContainsFunc(i.RepoDigests, func(s string) bool { return used[s] }) {
			u.last = now
			continue
		}
		if !i.Pinned && now.Sub(u.first) >= m.config.ImageGC.MinAge {
			list = append(list, candidateImage{i, u.last})
		}
	}
	m.images.seen = seen
	slices.SortStableFunc(list, func(a, b candidateImage) int {
		return cmp.Or(a.last.Compare(b.last), seen[a.ID].first.Compare(seen[b.ID].first), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// removeImages removes images in order until want bytes are free.
func (m *Manager) removeImages(ctx context.Context, list []candidateImage, want int64) (freed int64, err error) {
	for _, i := range list {
		if freed >= want {
			break
		}
		if err := m.config.Images.RemoveImage(ctx, runtime.ImageSpec{Image: i.ID}); err != nil {
			return freed, err
		}
		delete(m.images.seen, i.ID)
		freed += int64(i.Size)
	}
	return freed, nil
}
