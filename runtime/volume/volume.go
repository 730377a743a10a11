// SPDX-License-Identifier: Apache-2.0

// Package volume has the parts of a pod's volumes that stand alone: directories
// whose files all change at one instant, and the interface for storage drivers.
//
//	changed, err := volume.Write(dir, map[string]volume.File{
//		"app.conf": {Data: []byte("color=blue\n")},
//	})
//
// A reader of the directory sees all of the old files or all of the new ones:
// what it sees are links through one link, ..data, that is replaced by a rename. The layout is
// that of Kubernetes, so programs that watch for it work.
package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Driver provides volumes; the methods are those of a CSI node plugin
// (https://github.com/container-storage-interface/spec) in plain types. All are idempotent: after an
// error or a restart they are called again with the same arguments.
type Driver interface {
	// Stage makes the volume available on this machine, at a directory that all pods share.
	Stage(ctx context.Context, s Source, staging string) error
	// Publish shows the volume at target, a directory that exists, for one pod.
	Publish(ctx context.Context, s Source, staging, target string, pod Pod) error
	// Unpublish undoes Publish. It gets no source: after a restart only the paths are known.
	Unpublish(ctx context.Context, volumeID, target string) error
	// Unstage undoes Stage, when no pod on this machine uses the volume any more.
	Unstage(ctx context.Context, volumeID, staging string) error
}

// Source names a volume of a driver.
type Source struct {
	Driver     string
	VolumeID   string
	ReadOnly   bool
	FSType     string
	Attributes map[string]string
	Secrets    map[string]string
}

// Pod is for whom a volume is published.
type Pod struct {
	Namespace, Name, UID, ServiceAccount string
}

// File is the content of one file. A zero Mode is 0644.
type File struct {
	Data []byte
	Mode fs.FileMode
}

// data is the link through which all files are seen.
const data = "..data"

// Write makes dir hold exactly these files, by their slash-separated paths,
// and reports whether anything changed. The change happens at one instant; when Write fails the
// old files are still there, whole.
func Write(dir string, files map[string]File) (changed bool, err error) {
	for path := range files {
		if err := check(path); err != nil {
			return false, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	old, _ := os.Readlink(filepath.Join(dir, data))
	if old != "" && same(filepath.Join(dir, old), files) {
		return false, link(dir, files)
	}
	fresh, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if err := fill(fresh, files); err != nil {
		return false, errors.Join(fmt.Errorf("write volume: %w", err), os.RemoveAll(fresh))
	}
	temporary := filepath.Join(dir, "..data_tmp")
	os.Remove(temporary) // of a crash
	if err := os.Symlink(filepath.Base(fresh), temporary); err != nil {
		return false, errors.Join(fmt.Errorf("write volume: %w", err), os.RemoveAll(fresh))
	}
	if err := os.Rename(temporary, filepath.Join(dir, data)); err != nil {
		return false, errors.Join(fmt.Errorf("write volume: %w", err), os.RemoveAll(fresh))
	}
	return true, errors.Join(link(dir, files), sweep(dir, files, filepath.Base(fresh)))
}

// check refuses paths that leave the directory or that the layout needs.
func check(path string) error {
	if !filepath.IsLocal(path) || path != filepath.ToSlash(filepath.Clean(path)) || path == "." || strings.HasPrefix(path, "..") {
		return fmt.Errorf("volume file %q: want a relative path such as \"app.conf\", not beginning with \"..\"", path)
	}
	return nil
}

func (f File) mode() fs.FileMode {
	if f.Mode == 0 {
		return 0o644
	}
	return f.Mode
}

func fill(dir string, files map[string]File) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for path, f := range files {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, f.Data, f.mode()); err != nil {
			return err
		}
		if err := os.Chmod(full, f.mode()); err != nil { // whatever the umask is
			return err
		}
	}
	return nil
}

// same compares a directory with files, also what is in it besides them.
func same(dir string, files map[string]File) bool {
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[filepath.ToSlash(name)]
		info, err := d.Info()
		if err != nil {
			return err
		}
		have, err := os.ReadFile(path)
		if err != nil || !ok || !bytes.Equal(have, want.Data) || info.Mode().Perm() != want.mode() {
			return errors.Join(err, fs.SkipAll, errDiffers)
		}
		n++
		return nil
	})
	return err == nil && n == len(files)
}

var errDiffers = errors.New("differs")

// tops are the first elements of the paths: what the directory shows.
func tops(files map[string]File) []string {
	var list []string
	for path := range files {
		top, _, _ := strings.Cut(path, "/")
		if !slices.Contains(list, top) {
			list = append(list, top)
		}
	}
	return list
}

func link(dir string, files map[string]File) error {
	for _, top := range tops(files) {
		err := os.Symlink(filepath.Join(data, top), filepath.Join(dir, top))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	return nil
}

// sweep removes the links and directories that are not in use any more.
func sweep(dir string, files map[string]File, current string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	keep := append(tops(files), data, current)
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
