// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// image finds the directory of an image.
func (o Options) image(name string) (string, error) {
	if o.ImageDir == "" {
		return "", fmt.Errorf("image %q: %w: this node runs programs of the machine: leave the image empty, or set Options.ImageDir", name, runtime.ErrNotFound)
	}
	if filepath.IsAbs(name) {
		if in, err := filepath.Rel(o.ImageDir, name); err == nil {
			name = in // the reference of an image is its directory
		}
	}
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("image %q: %w: want a name like \"example.com/app:1\"", name, runtime.ErrInvalid)
	}
	dir := filepath.Join(o.ImageDir, name)
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return "", fmt.Errorf("image %q: %w: there is no directory %s", name, runtime.ErrNotFound, dir)
	}
	return dir, nil
}

// PullImage finds the directory of an image: somebody else puts it there.
func (r *Runtime) PullImage(ctx context.Context, s runtime.ImageSpec, _ *runtime.AuthConfig, _ *runtime.PodSandboxConfig) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("pull image: %w", err)
	}
	return r.options.image(s.Image)
}

// ImageStatus describes the directory of an image.
func (r *Runtime) ImageStatus(ctx context.Context, s runtime.ImageSpec) (*runtime.Image, error) {
	dir, err := r.options.image(s.Image)
	if err != nil {
		return nil, ctx.Err() // not present
	}
	size := uint64(0)
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, e := d.Info(); e == nil {
				size += uint64(info.Size())
			}
		}
		return ctx.Err()
	})
	name, _ := filepath.Rel(r.options.ImageDir, dir)
	return &runtime.Image{ID: dir, RepoTags: []string{name}, Size: size, Pinned: true}, err
}

// ListImages lists nothing but what the filter names: any directory could be an image.
func (r *Runtime) ListImages(ctx context.Context, filter runtime.ImageSpec) ([]runtime.Image, error) {
	if filter.Image != "" {
		image, err := r.ImageStatus(ctx, filter)
		if image == nil {
			return nil, err
		}
		return []runtime.Image{*image}, err
	}
	return nil, ctx.Err()
}

// RemoveImage does nothing: the directories are not the runtime's.
func (r *Runtime) RemoveImage(ctx context.Context, s runtime.ImageSpec) error { return ctx.Err() }

// ImageFsInfo measures the file system of the images, or of the root directory.
func (r *Runtime) ImageFsInfo(ctx context.Context) ([]runtime.FilesystemUsage, error) {
	dir := r.options.ImageDir
	if dir == "" {
		dir = r.options.Root
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("file system of %s: %w", dir, err)
	}
	block := uint64(st.Bsize)
	return []runtime.FilesystemUsage{{
		Timestamp: time.Now(), Mountpoint: dir, CapacityBytes: st.Blocks * block, AvailableBytes: st.Bavail * block,
		UsedBytes: (st.Blocks - st.Bfree) * block, CapacityInodes: st.Files, FreeInodes: st.Ffree, InodesUsed: st.Files - st.Ffree,
	}}, ctx.Err()
}
