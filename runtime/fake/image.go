// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// PullImage makes an image present if Options.Image knows it.
func (r *Runtime) PullImage(ctx context.Context, spec runtime.ImageSpec, auth *runtime.AuthConfig, sc *runtime.PodSandboxConfig) (string, error) {
	call := Call{Op: "PullImage", Image: spec.Image}
	if sc != nil {
		call.Pod = sc.Metadata
	}
	if err := r.before(ctx, call); err != nil {
		return "", err
	}
	if spec.Image == "" {
		return "", fmt.Errorf("pull image: %w: it has no name", runtime.ErrInvalid)
	}
	image := runtime.Image{RepoTags: []string{spec.Image}, Size: 1 << 20}
	if r.options.Image != nil {
		var err error
		if image, err = r.options.Image(spec.Image); err != nil {
			return "", fmt.Errorf("pull image %q: %w", spec.Image, err)
		}
	}
	if image.ID == "" {
		image.ID = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(spec.Image)))
	}
	if !slices.Contains(image.RepoTags, spec.Image) && !strings.Contains(spec.Image, "@") {
		image.RepoTags = append(image.RepoTags, spec.Image)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[spec.Image] = &image
	return image.ID, nil
}

// ImageStatus finds an image by name or ID.
func (r *Runtime) ImageStatus(ctx context.Context, spec runtime.ImageSpec) (*runtime.Image, error) {
	if err := r.before(ctx, Call{Op: "ImageStatus", Image: spec.Image}); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if image := r.images[spec.Image]; image != nil {
		return image, nil
	}
	for _, image := range r.images {
		if image.ID == spec.Image {
			return image, nil
		}
	}
	return nil, nil
}

// ListImages lists what was pulled.
func (r *Runtime) ListImages(ctx context.Context, filter runtime.ImageSpec) ([]runtime.Image, error) {
	if err := r.before(ctx, Call{Op: "ListImages", Image: filter.Image}); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []runtime.Image
	for name, image := range r.images {
		if filter.Image == "" || filter.Image == name || filter.Image == image.ID {
			list = append(list, *image)
		}
	}
	return list, nil
}

// RemoveImage removes an image by name or ID.
func (r *Runtime) RemoveImage(ctx context.Context, spec runtime.ImageSpec) error {
	if err := r.before(ctx, Call{Op: "RemoveImage", Image: spec.Image}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := spec.Image
	if image := r.images[spec.Image]; image != nil {
		id = image.ID
	}
	for name, image := range r.images {
		if image.ID == id {
			delete(r.images, name)
		}
	}
	return nil
}

// ImageFsInfo answers as Options.ImageFs says.
func (r *Runtime) ImageFsInfo(ctx context.Context) ([]runtime.FilesystemUsage, error) {
	if err := r.before(ctx, Call{Op: "ImageFsInfo"}); err != nil {
		return nil, err
	}
	if r.options.ImageFs != nil {
		return r.options.ImageFs(), nil
	}
	return []runtime.FilesystemUsage{{
		Timestamp: time.Now(), Mountpoint: "/", CapacityBytes: 1 << 40, AvailableBytes: 1 << 40,
		CapacityInodes: 1 << 30, FreeInodes: 1 << 30,
	}}, nil
}
